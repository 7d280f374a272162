package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"reconcile/manifests"
)

// newValidate is `reconcile validate PATH`.
func newValidate() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "validate PATH",
		Short: "Check manifests and policies without a cluster",
		Long: "Reads a folder as a push of it would be read (YAML, JSON, CUE, policy/*.cue) and prints every mistake as\n" +
			"FILE:LINE:COL: MESSAGE. The exit code is 1 if there is one. What only the cluster knows, such as who owns an object, is not checked.",
		Example: "  reconcile validate .\n  reconcile validate -o json examples/guestbook",
		Args:    oneArg("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: want text or json", output)
			}
			tree, err := manifests.Folder(args[0])
			if err != nil {
				return err
			}
			child, err := manifests.NewChild()
			if err != nil {
				return err
			}
			loader, err := manifests.NewLoader(manifests.Config{Evaluator: child})
			if err != nil {
				return err
			}
			res, err := loader.Load(cmd.Context(), tree)
			if err != nil {
				return err
			}
			return errors.Join(printValidation(cmd.OutOrStdout(), res, output), noManifest(args[0], res))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// noManifest is the error for a path below which nothing is a manifest: most likely it is not the one that was meant.
func noManifest(path string, res *manifests.Result) error {
	if res.Files > 0 {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no manifest: want a folder, or a file that ends in .yaml, .yml, .json or .cue", path)
	}
	return fmt.Errorf("%s holds no manifest: no file below it ends in .yaml, .yml, .json or .cue, or all are hidden or named in .reconcileignore", path)
}

// validation is the JSON of `validate -o json`.
type validation struct {
	Findings []manifests.Finding `json:"findings"`
	Objects  []validObject       `json:"objects"`
}

type validObject struct {
	Key  string             `json:"key"`
	From manifests.Position `json:"from"`
}

func printValidation(w io.Writer, res *manifests.Result, output string) error {
	var bad error
	if n := len(res.Findings); n > 0 {
		bad = exitError{code: 1, err: fmt.Errorf("%d mistakes", n)}
		if n == 1 {
			bad = exitError{code: 1, err: fmt.Errorf("1 mistake")}
		}
	}
	if output == "json" {
		v := validation{Findings: append([]manifests.Finding{}, res.Findings...), Objects: []validObject{}}
		for _, m := range res.Manifests {
			v.Objects = append(v.Objects, validObject{m.Key.String(), m.Position})
		}
		if err := writeJSON(w, v); err != nil {
			return err
		}
		return bad
	}
	for _, f := range res.Findings {
		fmt.Fprintln(w, f)
	}
	if bad == nil && res.Files > 0 {
		fmt.Fprintf(w, "%d objects, no mistakes\n", len(res.Manifests))
	}
	return bad
}

// newCUEEval is the hidden subcommand with which this program starts itself to evaluate users' CUE (see manifests.Child).
func newCUEEval() *cobra.Command {
	return &cobra.Command{
		Use:    "cue-eval",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := manifests.EvalMain(os.Stdin, os.Stdout); code != 0 {
				return exitError{code: code}
			}
			return nil
		},
	}
}
