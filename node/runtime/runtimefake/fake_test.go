package runtimefake_test

import (
	"testing"

	"reconcile/node/runtime/runtimefake"
	"reconcile/node/runtime/runtimetest"
)

func TestContract(t *testing.T) {
	runtimetest.Contract(t, func(t *testing.T) *runtimetest.Harness {
		disk := runtimefake.NewDisk(t.TempDir())
		rt := runtimefake.Open(disk)
		h := &runtimetest.Harness{Runtime: rt, Dir: t.TempDir()}
		h.Reopen = func(t testing.TB, meanwhile func()) {
			if err := rt.Close(); err != nil {
				t.Fatal(err)
			}
			meanwhile()
			rt = runtimefake.Open(disk)
			h.Runtime = rt
		}
		return h
	})
}
