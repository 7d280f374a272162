package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"reconcile/client"
	"reconcile/controller"
	"reconcile/object"
)

// newStatus is `reconcile status`.
func newStatus() *cobra.Command {
	var f remoteFlags
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [COMMIT]",
		Short: "Show the cluster and its latest commit, or how far a commit has got",
		Long: "Without COMMIT: the servers, nodes and pods, and the latest commit. With COMMIT (a hash, which may be shortened, a branch, or HEAD,\n" +
			"each with ~N or ^ for an ancestor): when it was received, validated, planned and committed, under which revisions of the store\n" +
			"and as which entry of raft's log, and for every object whether it is current and why not. With --watch it goes on until the\n" +
			"commit (the latest one, if none is named) is healthy, and exits with 1 if it fails.",
		Example: "  reconcile status\n  reconcile status 3f2a1c0\n  reconcile status HEAD~1 -o json\n  git push cluster main && reconcile status --watch $(git rev-parse HEAD)",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %q: want text or json", output)
			}
			c, err := f.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			out := screen{w: cmd.OutOrStdout(), json: output == "json"}
			out.colour = !out.json && isTerminal(out.w) && os.Getenv("NO_COLOR") == ""
			if len(args) == 0 && !watch {
				return showCluster(cmd.Context(), c, out)
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			commit, err := findCommit(cmd.Context(), c, name)
			switch {
			case err != nil:
				return err
			case watch:
				return watchCommit(cmd.Context(), c, commit, out)
			}
			return out.commit(commit)
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until the commit is healthy or has failed")
	return cmd
}

// screen is where a command prints, and how.
type screen struct {
	w            io.Writer
	json, colour bool
}

// paint gives a phase or a status its colour.
func (s screen) paint(word string) string {
	code := ""
	switch word {
	case object.CommitHealthy, "Current", "Ready":
		code = "32"
	case object.CommitFailed, object.CommitRolledBack, "Failed", "NotReady":
		code = "31"
	case object.CommitProgressing, object.CommitCommitted, "InProgress", "Terminating":
		code = "33"
	}
	if !s.colour || code == "" {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

// clusterStatus is `status -o json`.
type clusterStatus struct {
	Servers []serverStatus `json:"servers"`
	Nodes   []nodeStatus   `json:"nodes"`
	// Pods are the numbers of pods by phase.
	Pods   map[string]int `json:"pods"`
	Commit *object.Commit `json:"commit,omitempty"`
}

type serverStatus struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Leader  bool   `json:"leader"`
	Live    bool   `json:"live"`
	// Store is how many bytes its log, snapshots and blobs take.
	Store map[string]int64 `json:"store,omitempty"`
	// Disk says that the disk of its data directory is nearly full.
	Disk string `json:"disk,omitempty"`
}

type nodeStatus struct {
	Name        string `json:"name"`
	Ready       bool   `json:"ready"`
	Schedulable bool   `json:"schedulable"`
	Pods        int    `json:"pods"`
	Message     string `json:"message,omitempty"`
	// Disk says that its disk is nearly full: it takes no new pods.
	Disk string `json:"disk,omitempty"`
}

func showCluster(ctx context.Context, c *client.Client, out screen) error {
	st, err := readCluster(ctx, c, time.Now())
	if err != nil {
		return err
	}
	if out.json {
		return writeJSON(out.w, st)
	}
	t := tabwriter.NewWriter(out.w, 0, 8, 2, ' ', 0)
	for _, s := range st.Servers {
		note := ""
		if s.Leader {
			note = "leader"
		}
		if !s.Live {
			note = "away"
		}
		note = joined(note, s.Disk)
		fmt.Fprintf(t, "server\t%s\t%s\t%s\n", s.ID, s.Address, note)
	}
	for _, n := range st.Nodes {
		word := "NotReady"
		if n.Ready {
			word = "Ready"
		}
		note := n.Message
		if !n.Schedulable {
			note = strings.TrimSpace("cordoned " + note)
		}
		note = joined(note, n.Disk)
		if note != "" {
			note = ", " + note
		}
		fmt.Fprintf(t, "node\t%s\t%s\t%d pods%s\n", n.Name, out.paint(word), n.Pods, note)
	}
	total, phases := 0, []string{}
	for _, p := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown} {
		if n := st.Pods[string(p)]; n > 0 {
			total += n
			phases = append(phases, fmt.Sprintf("%d %s", n, strings.ToLower(string(p))))
		}
	}
	fmt.Fprintf(t, "pods\t%d\t%s\n", total, strings.Join(phases, ", "))
	if err := t.Flush(); err != nil {
		return err
	}
	if st.Commit == nil {
		_, err := fmt.Fprintln(out.w, "no commit yet: `reconcile remote add cluster` in a git work tree, then `git push cluster main`")
		return err
	}
	fmt.Fprintln(out.w)
	return out.commit(st.Commit)
}

// joined adds to a note that a disk is nearly full, if it is.
func joined(note, disk string) string {
	switch {
	case disk == "":
		return note
	case note == "":
		return "disk nearly full: " + disk
	}
	return note + ", disk nearly full: " + disk
}

func readCluster(ctx context.Context, c *client.Client, now time.Time) (clusterStatus, error) {
	st := clusterStatus{Servers: []serverStatus{}, Nodes: []nodeStatus{}, Pods: map[string]int{}}
	leases, err := c.List(ctx, object.Selection{Resource: "leases", Namespace: metav1.NamespaceSystem})
	if err != nil {
		return st, err
	}
	st.Servers = servers(leases, now)
	pods, err := c.List(ctx, object.Selection{Resource: "pods"})
	if err != nil {
		return st, err
	}
	on := map[string]int{}
	for _, o := range pods {
		p := o.(*corev1.Pod)
		on[p.Spec.NodeName]++
		st.Pods[string(p.Status.Phase)]++
	}
	nodes, err := c.List(ctx, object.Selection{Resource: "nodes"})
	if err != nil {
		return st, err
	}
	for _, o := range nodes {
		n := o.(*corev1.Node)
		line := nodeStatus{Name: n.Name, Schedulable: !n.Spec.Unschedulable, Pods: on[n.Name], Message: "its agent has not reported"}
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				line.Ready, line.Message = cond.Status == corev1.ConditionTrue, cond.Message
			}
			if cond.Type == corev1.NodeDiskPressure && cond.Status == corev1.ConditionTrue {
				line.Disk = cond.Message
			}
		}
		if line.Ready {
			line.Message = ""
		}
		st.Nodes = append(st.Nodes, line)
	}
	commits, err := listCommits(ctx, c)
	if err == nil && len(commits) > 0 {
		st.Commit = commits[0]
	}
	return st, err
}

// servers reads the leases by which servers say that they live.
func servers(leases []object.Object, now time.Time) []serverStatus {
	out, leader := []serverStatus{}, ""
	for _, o := range leases {
		l := o.(*coordinationv1.Lease)
		if l.Name == controller.LeaderLease && l.Spec.HolderIdentity != nil {
			leader = *l.Spec.HolderIdentity
		}
	}
	for _, o := range leases {
		l := o.(*coordinationv1.Lease)
		id, ok := strings.CutPrefix(l.Name, controller.ServerLeasePrefix)
		if !ok {
			continue
		}
		s := serverStatus{ID: id, Address: l.Annotations[controller.AnnotationAddress], Leader: id == leader, Disk: l.Annotations[controller.AnnotationDisk]}
		if text := l.Annotations[controller.AnnotationStore]; text != "" && json.Unmarshal([]byte(text), &s.Store) != nil {
			s.Store = nil // of another version
		}
		if l.Spec.RenewTime != nil && l.Spec.LeaseDurationSeconds != nil {
			s.Live = now.Sub(l.Spec.RenewTime.Time) < time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second
		}
		out = append(out, s)
	}
	return out
}

// since prints a time as its distance from the beginning of the commit's way.
func since(from, to time.Time) string {
	d := to.Sub(from)
	if d < time.Second {
		return fmt.Sprintf("+%d ms", d.Milliseconds())
	}
	if d < time.Minute {
		return fmt.Sprintf("+%.3f s", d.Seconds())
	}
	return "+" + duration.HumanDuration(d)
}
