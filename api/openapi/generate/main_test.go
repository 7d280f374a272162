package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCommittedFilesAreCurrent holds api/openapi/data against what would be generated.
func TestCommittedFilesAreCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadDir("../data")
	if err != nil {
		t.Fatal(err)
	}
	if len(have) != len(want) {
		t.Errorf("there are %d files, %d would be generated: run `go generate ./api/openapi`", len(have), len(want))
	}
	for name, b := range want {
		if got, err := os.ReadFile(filepath.Join("../data", name)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s is not what would be generated: run `go generate ./api/openapi` (%v)", name, err)
		}
	}
}
