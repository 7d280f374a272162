package runtime_test

import (
	"testing"

	"reconcile/node/runtime/runtimetest"
)

func TestHost(t *testing.T) {
	runtimetest.NeedsRoot(t)
	guest := runtimetest.BuildGuest(t)
	open := func(t *testing.T) *runtimetest.Harness { return runtimetest.NewHost(t, guest) }
	t.Run("contract", func(t *testing.T) { runtimetest.Contract(t, open) })
	t.Run("kernel", func(t *testing.T) { runtimetest.Kernel(t, open) })
}
