package api_test

import (
	"testing"

	"reconcile/api/apitest"
)

// TestStoreSuite holds the real store, with its controllers, to what this package relies on. The fake, on which most tests here run, is held to the same.
func TestStoreSuite(t *testing.T) {
	t.Parallel()
	apitest.Suite(t, func(t *testing.T) apitest.Stored { return newRealStore(t) })
}
