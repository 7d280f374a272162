package apitest_test

import (
	"testing"

	"reconcile/api/apitest"
)

// TestSuite holds the fake to what the real store does (package api runs the same on that).
func TestSuite(t *testing.T) {
	t.Parallel()
	apitest.Suite(t, func(*testing.T) apitest.Stored { return apitest.New() })
}
