package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"reconcile/scheduler"
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
			c, err := f.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			now, err := readPlaces(cmd.Context(), c)
			if err != nil {
				return err
			}
			profiles, err := scheduler.ReadProfiles(now)
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", err)
			}
			moves := movesOf(scheduler.NewSnapshotFor(now, profiles).Rebalance(gain, most))
			switch output {
			case "json":
				return writeJSON(cmd.OutOrStdout(), moves)
			case "text":
				return printMoves(cmd.OutOrStdout(), moves)
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

// move is one line of the plan.
type move struct {
	Pod  string `json:"pod"`
	From string `json:"from"`
	To   string `json:"to"`
	// Gain is in points of the score; Refused names the rule for which the old node would not take the pod today.
	Gain    int64  `json:"gain,omitempty"`
	Refused string `json:"refused,omitempty"`
}

func movesOf(list []scheduler.Move) []move {
	out := []move{}
	for _, m := range list {
		out = append(out, move{m.Pod.Namespace + "/" + m.Pod.Name, m.From, m.To, m.Gain, m.Refused})
	}
	return out
}

func printMoves(w io.Writer, moves []move) error {
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

// explainNode tells where the pods of a node would go if it went.
func explainNode(w io.Writer, now places, node, output string) error {
	profiles, _ := scheduler.ReadProfiles(now) // what cannot be read is told where it is used
	type line struct {
		Pod     string   `json:"pod"`
		Node    string   `json:"node,omitempty"`
		Victims []string `json:"victims,omitempty"`
		Message string   `json:"message,omitempty"`
	}
	list := []line{}
	for _, d := range scheduler.NewSnapshotFor(now, profiles).Without(node) {
		l := line{Pod: podKey(d.Pod), Node: d.Node, Message: d.Message}
		for _, q := range d.Victims {
			l.Victims = append(l.Victims, podKey(q))
		}
		list = append(list, l)
	}
	if output == "json" {
		return writeJSON(w, list)
	}
	fmt.Fprintf(w, "without node %s, of its pods that are made anew\n", node)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, l := range list {
		where := "nowhere"
		if l.Node != "" {
			where = l.Node
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", l.Pod, where, l.Message)
	}
	return t.Flush()
}

func podKey(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }
