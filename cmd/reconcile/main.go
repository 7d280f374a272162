// Command reconcile turns a git repository into running services on bare metal.
//
// It owns the command line: one file a subcommand, no logic of its own. Data passes from flags and arguments to the packages
// that do the work, and from their results to the terminal.
package main

import (
	"fmt"
	"os"
)

func main() {
	err := newRoot().Execute()
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "reconcile: "+err.Error())
	}
	os.Exit(exitCode(err))
}
