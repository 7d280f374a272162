package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"reconcile/explain"
)

// newRebalance is `reconcile rebalance`.
func newRebalance() *cobra.Command {
	var f remoteFlags
	var output string
	var plan bool
	gain, most := int64(20), 50
	cmd := &cobra.Command{
		Use:   "rebalance --plan",
		Short: "Tell which pods would be better off on another node",
		Long: "Prints the pods that would score higher on another node, as the scheduler sees them now, or that their node would refuse\n" +
			"today. Nothing is moved: delete a pod to have its controller make it anew.",
		Example: "  reconcile rebalance --plan\n  reconcile rebalance --plan --gain 50 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !plan {
				return fmt.Errorf("rebalance moves nothing by itself: say --plan to see what it would move")
			}
			if gain < 1 || most < 1 {
				return fmt.Errorf("--gain and --most want whole numbers of at least 1")
			}
			var r explain.Rebalance
			if err := f.ask(cmd.Context(), http.MethodGet, fmt.Sprintf("rebalance?gain=%d&most=%d", gain, most), nil, &r); err != nil {
				return err
			}
			if r.Warning != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", r.Warning)
			}
			switch output {
			case "json":
				return writeJSON(cmd.OutOrStdout(), r.Moves)
			case "text":
				return printMoves(cmd.OutOrStdout(), r.Moves)
			}
			return fmt.Errorf("-o %q: want text or json", output)
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&plan, "plan", false, "show the moves")
	cmd.Flags().Int64Var(&gain, "gain", gain, "the least score that a move must gain")
	cmd.Flags().IntVar(&most, "most", most, "the most moves")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printMoves(w io.Writer, moves []explain.Move) error {
	if len(moves) == 0 {
		_, err := fmt.Fprintln(w, "every pod is where it scores best, or close to it")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, m := range moves {
		why := fmt.Sprintf("gains %d", m.Gain)
		if m.Refused != "" {
			why = "is refused by " + m.Refused + " where it is"
		}
		fmt.Fprintf(t, "%s\t%s → %s\t%s\n", m.Pod, m.From, m.To, why)
	}
	return t.Flush()
}

// printNode tells where the pods of a node would go if it went.
func printNode(w io.Writer, n explain.Node, node, output string) error {
	switch output {
	case "json":
		return writeJSON(w, n)
	case "text":
	default:
		return fmt.Errorf("-o %q: want text or json", output)
	}
	fmt.Fprintf(w, "without node %s, of its pods that are made anew\n", node)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	held, stay := 0, 0
	for _, m := range n.Moves {
		where := cmp.Or(m.Node, "nowhere")
		if m.Nominated != "" {
			where, m.Message = m.Nominated, "once these would be gone: "+strings.Join(m.Victims, ", ")
		}
		if m.Held != "" {
			held++
		}
		if m.Stays {
			stay++
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", m.Pod, where, m.Message)
	}
	if held > 0 {
		fmt.Fprintln(t, "a drain would wait for")
	}
	for _, m := range n.Moves {
		if m.Held != "" {
			fmt.Fprintf(t, "  %s\t%s\n", m.Pod, m.Held)
		}
	}
	if stay > 0 {
		fmt.Fprintln(t, "if it is only not heard of, these are made anew when it is deleted or tainted node.kubernetes.io/out-of-service, as they may still run there")
	}
	for _, m := range n.Moves {
		if m.Stays {
			fmt.Fprintf(t, "  %s\n", m.Pod)
		}
	}
	for _, x := range []struct {
		title string
		pods  []string
	}{{"nobody makes these anew (kubectl drain needs --force)", n.Gone}, {"these belong to the node and go with it", n.Daemons}} {
		if len(x.pods) > 0 {
			fmt.Fprintln(t, x.title)
		}
		for _, p := range x.pods {
			fmt.Fprintf(t, "  %s\n", p)
		}
	}
	return t.Flush()
}
