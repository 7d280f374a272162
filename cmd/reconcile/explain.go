package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"reconcile/client"
	"reconcile/explain"
	"reconcile/object"
	"reconcile/scheduler"
)

// newExplain is `reconcile explain`.
func newExplain() *cobra.Command {
	var f remoteFlags
	var output, namespace string
	cmd := &cobra.Command{
		Use:   "explain pod/NAME | node/NAME",
		Short: "Tell why a pod is where it is, or nowhere; where a node's pods would go without it",
		Long: "Prints the pod's state and events, and what the scheduler says of each node as things stand now: the rule that refuses the\n" +
			"pod there, with its numbers, or the node's score. Of a node, it prints where each of its pods would go if it were drained or lost,\n" +
			"what a drain would wait for, and which pods nobody would make anew.",
		Example: "  reconcile explain pod/web-0\n  reconcile explain -n shop pod/cart-2 -o json\n  reconcile explain node/n1",
		Args:    oneArg("pod/NAME or node/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, name, ok := strings.Cut(args[0], "/")
			if !ok || name == "" || kind != "pod" && kind != "node" {
				return fmt.Errorf("explain %s: want pod/NAME or node/NAME", args[0])
			}
			if kind == "node" {
				var n explain.Node
				if err := f.ask(cmd.Context(), http.MethodGet, "explain/nodes/"+name, nil, &n); err != nil {
					return err
				}
				return printNode(cmd.OutOrStdout(), n, name, output)
			}
			c, err := f.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			e, err := explainPod(cmd.Context(), &f, c, object.Key{Resource: "pods", Namespace: namespace, Name: name})
			switch {
			case err != nil:
				return err
			case output == "json":
				return writeJSON(cmd.OutOrStdout(), e)
			case output == "text":
				return e.print(cmd.OutOrStdout(), time.Now())
			}
			return fmt.Errorf("-o %q: want text or json", output)
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "the pod's namespace")
	return cmd
}

// explanation is what the cluster says about a pod's place and state.
type explanation struct {
	Name  string `json:"pod"`
	Node  string `json:"node,omitempty"`
	Phase string `json:"phase"`
	// Owner is what made the pod, and what made that ("replicaset/web-5 of deployment/web"); Source is the file and line in git of the object behind it, if it comes from there.
	Owner  string `json:"owner,omitempty"`
	Source string `json:"source,omitempty"`
	// Conditions that do not hold, with the scheduler's reason for each node that it refused.
	Conditions []explained `json:"conditions,omitempty"`
	Containers []explained `json:"containers,omitempty"`
	Events     []explained `json:"events,omitempty"`
	explain.Pod
}

type explained struct {
	What    string    `json:"what"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Time    time.Time `json:"time"`
}

// explainPod asks the cluster about a pod: its state and events as kubectl would, its place by the server.
func explainPod(ctx context.Context, f *remoteFlags, c *client.Client, key object.Key) (explanation, error) {
	o, err := c.Get(ctx, key)
	if err != nil {
		return explanation{}, err
	}
	p := o.(*corev1.Pod)
	e := explanation{Name: key.String(), Node: p.Spec.NodeName, Phase: string(p.Status.Phase)}
	if e.Owner, e.Source, err = origin(ctx, c, p); err != nil {
		return e, err
	}
	for _, cond := range p.Status.Conditions {
		if cond.Status != corev1.ConditionTrue || cond.Type == corev1.PodScheduled {
			e.Conditions = append(e.Conditions, explained{fmt.Sprintf("%s=%s", cond.Type, cond.Status), cond.Reason, cond.Message, cond.LastTransitionTime.Time})
		}
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, cs := range list {
			e.Containers = append(e.Containers, containerLine(cs))
		}
	}
	events, err := c.List(ctx, object.Selection{Resource: "events", Namespace: key.Namespace, FieldSelector: "involvedObject.kind=Pod,involvedObject.name=" + key.Name})
	if err != nil {
		return e, err
	}
	slices.SortFunc(events, inOrder)
	for _, o := range events {
		ev := o.(*corev1.Event)
		e.Events = append(e.Events, explained{ev.Type, ev.Reason, ev.Message, eventTime(ev)})
	}
	return e, f.ask(ctx, http.MethodGet, "explain/pods/"+key.Namespace+"/"+key.Name, nil, &e.Pod)
}

// eventTime is when an event happened the last time.
func eventTime(ev *corev1.Event) time.Time {
	if ev.LastTimestamp.IsZero() {
		return ev.EventTime.Time
	}
	return ev.LastTimestamp.Time
}

// inOrder sorts events by time and, within a second, which is all that most of them tell, as the cluster has written them.
func inOrder(a, b object.Object) int {
	if n := eventTime(a.(*corev1.Event)).Compare(eventTime(b.(*corev1.Event))); n != 0 {
		return n
	}
	// A longer number is a larger one.
	x, y := a.GetResourceVersion(), b.GetResourceVersion()
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}

// origin follows the controllers of an object up to the first that comes from git: what made the object, ending with that one, and
// its file and line. A controller that is gone ends the way.
func origin(ctx context.Context, c *client.Client, o object.Object) (owners, file string, err error) {
	var way []string
	for file = o.GetAnnotations()[object.AnnotationFile]; file == ""; file = o.GetAnnotations()[object.AnnotationFile] {
		ref := metav1.GetControllerOf(o)
		if ref == nil {
			break
		}
		way = append(way, strings.ToLower(ref.Kind)+"/"+ref.Name)
		k, ok := object.KindOf(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
		if !ok {
			break
		}
		o, err = c.Get(ctx, object.Key{Resource: k.Resource, Namespace: o.GetNamespace(), Name: ref.Name})
		if apierrors.IsNotFound(err) {
			return strings.Join(way, " of "), "", nil
		}
		if err != nil {
			return "", "", err
		}
	}
	return strings.Join(way, " of "), file, nil
}

// containerLine tells how a container is, and how it ended the last time.
func containerLine(cs corev1.ContainerStatus) explained {
	out := explained{What: "container " + cs.Name}
	switch {
	case cs.State.Waiting != nil:
		out.Reason, out.Message = cs.State.Waiting.Reason, cs.State.Waiting.Message
	case cs.State.Terminated != nil:
		t := cs.State.Terminated
		out.Reason, out.Message, out.Time = t.Reason, fmt.Sprintf("exit code %d %s", t.ExitCode, t.Message), t.FinishedAt.Time
	case cs.State.Running != nil:
		out.Reason, out.Time = "Running", cs.State.Running.StartedAt.Time
		if !cs.Ready {
			out.Message = "not ready"
		}
	}
	if t := cs.LastTerminationState.Terminated; t != nil {
		out.Message = strings.TrimSpace(fmt.Sprintf("%s; %d restarts, the last after %s with exit code %d", out.Message, cs.RestartCount, t.Reason, t.ExitCode))
	}
	return out
}

func (e explanation) print(w io.Writer, now time.Time) error {
	where := "on no node"
	if e.Node != "" {
		where = "on node " + e.Node
	}
	fmt.Fprintf(w, "%s is %s %s\n", e.Name, e.Phase, where)
	if e.Owner != "" {
		fmt.Fprintf(w, "made by %s\n", e.Owner)
	}
	if e.Source != "" {
		fmt.Fprintf(w, "from %s\n", e.Source)
	}
	for _, why := range e.Waits {
		fmt.Fprintf(w, "waits: %s\n", why)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, list := range [][]explained{e.Conditions, e.Containers, e.Events} {
		for _, x := range list {
			ago := ""
			if !x.Time.IsZero() {
				ago = duration.HumanDuration(now.Sub(x.Time)) + " ago"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", x.What, x.Reason, ago, x.Message)
		}
	}
	if len(e.Nodes) > 0 {
		fmt.Fprintln(t, "nodes, as the scheduler sees them now")
	}
	for _, v := range e.Nodes {
		verdict, why := "refuses", v.Plugin+": "+strings.Join(append(slices.Clone(v.Reasons), v.Detail...), ", ")
		if v.Fits {
			verdict, why = "has room", fmt.Sprintf("score %d: %s", v.Score, shares(v.Scores))
		}
		if v.Node == e.Node {
			verdict += ", it is here"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", v.Node, verdict, why)
	}
	for _, x := range e.Evictions {
		fmt.Fprintf(t, "  %s\twould have room\twithout %s", x.Node, strings.Join(x.Pods, ", "))
		if x.Protected > 0 {
			fmt.Fprintf(t, " (%d protected by a PodDisruptionBudget)", x.Protected)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// shares writes the plugins' shares of a score, weight times score; those that give nothing are left out.
func shares(list []scheduler.PluginScore) string {
	var out []string
	for _, s := range list {
		if s.Score > 0 {
			out = append(out, fmt.Sprintf("%s %d×%d", s.Plugin, s.Weight, s.Score))
		}
	}
	return strings.Join(out, ", ")
}
