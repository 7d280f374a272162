//go:build linux && cgo

package main

import (
	"os"
	"testing"

	"reconcile/node/runtime/wire"
)

// No file that is opened later gets a number that the shim's streams will have.
func TestReserve(t *testing.T) {
	if err := reserve(); err != nil {
		t.Fatal(err)
	}
	for range 2 * wire.ShimAttach {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n := int(f.Fd()); n >= wire.ShimStdout && n <= wire.ShimAttach {
			t.Fatalf("a file got descriptor %d, which is the shim's", n)
		}
	}
}
