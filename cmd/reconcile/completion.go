package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newCompletion is `reconcile completion`: the shell's script for completing commands and flags.
func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print the shell's completion script",
		Example:   "  source <(reconcile completion bash)\n  reconcile completion zsh > \"${fpath[1]}/_reconcile\"\n  reconcile completion fish | source",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return fmt.Errorf("no completion for %s: want one of %v", args[0], shells)
		},
	}
}
