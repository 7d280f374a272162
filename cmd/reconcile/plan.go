package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"reconcile/gitops"
)

// exitChanges is the exit code of a plan that holds changes.
const exitChanges = 2

// savedPlan is the file that `plan --out` writes and `apply --plan` reads: what was asked, and the token of the answer.
type savedPlan struct {
	Request gitops.PlanRequest `json:"request"`
	Token   string             `json:"token"`
}

// newPlan is `reconcile plan PATH|REV`.
func newPlan() *cobra.Command {
	var flags folderFlags
	var output, file string
	cmd := &cobra.Command{
		Use:   "plan PATH|REV",
		Short: "Show what a folder or a git revision would change",
		Long: "Sends a folder, or a revision of the git repository around you, to the cluster, which settles it on its state without committing\n" +
			"and answers with the plan: objects, fields, the node of each new pod, service rules. Exit codes: 0 nothing to do, 2 changes, 1 error.\n\n" +
			"The plan of a revision is that of a push of it, down to the names of new pods. A folder is no commit yet: the plan has the names that\n" +
			"`reconcile apply` will make.",
		Example: "  reconcile plan .\n  reconcile plan HEAD --out plan.json && reconcile apply --plan plan.json",
		Args:    oneArg("PATH or REV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: want text or json", output)
			}
			req, err := flags.request(cmd.Context(), args[0], cmd.OutOrStdout())
			if err != nil {
				return err
			}
			req, res, err := flags.ask(cmd.Context(), "plan", req)
			if err != nil {
				return err
			}
			return answerPlan(cmd.OutOrStdout(), req, res, output, file)
		},
	}
	flags.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&file, "out", "", "keep the plan in `FILE` for apply --plan; it holds all that was planned, Secrets too (mode 0600)")
	return cmd
}

func answerPlan(w io.Writer, req gitops.PlanRequest, res gitops.PlanResponse, output, file string) error {
	if output == "json" {
		if err := writeJSON(w, res); err != nil {
			return err
		}
		if err := refusal(io.Discard, res); err != nil {
			return exitError{code: 1, err: err}
		}
	} else {
		if err := refusal(w, res); err != nil {
			return err
		}
		if !res.Changes {
			fmt.Fprintln(w, "Nothing to do.")
		} else {
			fmt.Fprint(w, res.Text)
		}
		if res.Note != "" {
			fmt.Fprintln(w, res.Note)
		}
	}
	if file != "" {
		body, err := json.Marshal(savedPlan{Request: req, Token: res.Token})
		if err != nil {
			return fmt.Errorf("encode the plan: %w", err)
		}
		// The folder may hold Secrets.
		if err := os.WriteFile(file, body, 0o600); err != nil {
			return fmt.Errorf("keep the plan: %w", err)
		}
	}
	if res.Changes {
		return exitError{code: exitChanges}
	}
	return nil
}

// readPlan reads what plan --out has written.
func readPlan(file string) (gitops.PlanRequest, error) {
	var saved savedPlan
	body, err := os.ReadFile(file)
	if err != nil {
		return saved.Request, fmt.Errorf("read the plan: %w", err)
	}
	if err := json.Unmarshal(body, &saved); err != nil {
		return saved.Request, fmt.Errorf("read the plan %s: %w", file, err)
	}
	if saved.Token == "" {
		return saved.Request, errors.New(file + " holds no plan; make one with `reconcile plan PATH --out FILE`")
	}
	saved.Request.Token = saved.Token
	return saved.Request, nil
}
