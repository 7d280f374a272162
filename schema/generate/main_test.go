package main

import (
	"bytes"
	"os"
	"testing"
)

// TestCommittedFileIsCurrent holds schema/definitions.cue against what would be generated.
func TestCommittedFileIsCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../definitions.cue")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("schema/definitions.cue is not what would be generated: run `go generate ./schema`")
	}
}
