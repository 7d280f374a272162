package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts of testdata/script call `reconcile`, and the test binary be the child that evaluates CUE.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "cue-eval" {
		main()
	}
	testscript.Main(m, map[string]func(){"reconcile": main})
}

func TestScripts(t *testing.T) {
	example, err := filepath.Abs("../../examples/guestbook/deploy")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("EXAMPLE", example)
		return nil
	}})
}
