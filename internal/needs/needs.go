// Package needs lets a test say that the machine lacks what it needs: root, a tool, a kernel module. It owns the one switch that
// decides what follows, and knows no tests. Elsewhere such a test is skipped with the reason, so that `go test ./...` is green on any
// machine; under `make test`, which installs all that is needed, it fails, so that nothing is ever left out in silence.
package needs

import (
	"os"
	"testing"
)

// Variable is the environment variable that makes a missing need a failure, if it is not empty.
const Variable = "TEST_REQUIRED"

// Missing ends the calling test: as skipped, or as failed where Variable is set. why says what is missing and how to get it.
func Missing(t testing.TB, why ...any) {
	t.Helper()
	if os.Getenv(Variable) != "" {
		t.Fatal(append([]any{"nothing may be missing here (" + Variable + " is set):"}, why...)...)
		return
	}
	t.Skip(append([]any{"skipped:"}, why...)...)
}
