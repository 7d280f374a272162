// Command reconcile turns a git repository into running services on bare metal.
//
// It owns the command line: one file a subcommand, no logic of its own. Data passes from flags and arguments to the packages
// that do the work, and from their results to the terminal.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	cmd, err := newRoot().ExecuteC()
	// Cobra finds missing flags on its own, after it has asked everybody else.
	if err != nil && strings.HasPrefix(err.Error(), "required flag(s) ") {
		err = usageError(cmd, err)
	}
	if err != nil {
		err = knownToKubectl(err)
	}
	if err = advise(cmd, err); err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "reconcile: "+strings.TrimPrefix(err.Error(), "reconcile "))
	}
	os.Exit(exitCode(err))
}
