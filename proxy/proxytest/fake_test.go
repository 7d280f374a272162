package proxytest_test

import (
	"testing"

	"reconcile/proxy/proxytest"
)

func TestFake(t *testing.T) {
	proxytest.Run(t, func(*testing.T) proxytest.Env { return proxytest.NewFake() })
}
