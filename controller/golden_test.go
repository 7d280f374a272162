package controller_test

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/scheduler"
)

// TestGolden plays the transcripts of testdata/golden. Commands:
//
//	node NAME [cpu=N] [memory=N] [pods=N] [taint=K:V:EFFECT] [label=K:V] [unschedulable]   adds a ready node
//	heartbeat NAME...                              renews nodes' leases
//	lead                                           another server leads from now on
//	apply                                          stores the manifest below as the API server would
//	deploy NAME replicas=N image=V [paused] [recreate] [history=N] [deadline=N] [minready=N] [surge=X] [unavailable=X]
//	delete KIND/NS/NAME [policy=P] [grace=N]
//	settle                                         runs Settle; prints sizes as they change, refusals, quarantine
//	ready N [dead=NODE]                            lets kubelets make N pods ready and end terminating ones, then settles
//	condition NODE TYPE=STATUS                     sets a node's condition, as its agent reports it
//	advance DURATION                               moves the clock (settles at each wake)
//	patch KIND/NS/NAME [status]                    merges the document below into an object, or into its status as its agent does
//	end OWNER [n=N] [exit=CODE] [index=I] [condition=TYPE]   ends N of an owner's pods, well unless there is a code
//	restarts OWNER N                               has the containers of an owner's first running pod restarted N times
//	kill OWNER [n=N] [index=I]                     deletes N of an owner's pods
//	unready POD                                    has a pod fail its readiness probe
//	use APP cpu=N … · serve APP METRIC=VALUE …      what pods use, and what they tell of themselves
//	label NODE KEY[=VALUE] · taint NODE [KEY=EFFECT]   changes a node
//	grant BUDGET                                   lets one pod be evicted, whose eviction does not begin
//	own CHILD OWNER [blocks]                       makes an object another one's owner
//	csr NAME signer=S … · approve NAME · deny NAME   a certificate request, and the decision about it
//	show WHAT                                      prints objects
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			w.log = nil
			switch d.Cmd {
			case "node":
				w.goldenNode(d)
				w.settle()
			case "heartbeat":
				for _, a := range d.CmdArgs {
					w.heartbeat(a.Key)
				}
				w.settle()
			case "condition":
				w.condition(d.CmdArgs[0].Key, d.CmdArgs[1].Key, d.CmdArgs[1].Vals[0])
				w.settle()
			case "lead":
				w.lead()
				w.settle(w.set.Resync(w.state)...)
			case "apply":
				if err := w.apply(d.Input); err != nil {
					return "error: " + err.Error() + "\n"
				}
				w.settle()
			case "deploy":
				if err := w.apply(goldenDeployment(d)); err != nil {
					return "error: " + err.Error() + "\n"
				}
				w.settle()
			case "delete":
				if err := w.goldenDelete(d); err != nil {
					return "error: " + err.Error() + "\n"
				}
				w.settle()
			case "settle":
				w.settle()
			case "ready":
				n, err := strconv.Atoi(d.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				w.kubelet(n, vals(d, "dead")...)
				w.settle()
			case "advance":
				w.advance(d)
			case "show":
				return w.show(d.CmdArgs[0].Key)
			default:
				if err := w.workload(d); err != nil {
					return "error: " + err.Error() + "\n"
				}
				w.settle()
			}
			if len(w.log) == 0 {
				return "ok\n"
			}
			return strings.Join(w.log, " ") + "\n"
		})
	})
}

func vals(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func val(d *datadriven.TestData, key, otherwise string) string {
	if v := vals(d, key); len(v) > 0 {
		return v[0]
	}
	return otherwise
}

func has(d *datadriven.TestData, key string) bool {
	return slices.ContainsFunc(d.CmdArgs, func(a datadriven.CmdArg) bool { return a.Key == key })
}

func (w *world) goldenNode(d *datadriven.TestData) {
	w.node(d.CmdArgs[0].Key, val(d, "cpu", "4"), val(d, "memory", "8Gi"), func(n *corev1.Node) {
		n.Spec.Unschedulable = has(d, "unschedulable")
		if p := strings.Split(val(d, "taint", ""), ":"); len(p) == 3 {
			n.Spec.Taints = []corev1.Taint{{Key: p[0], Value: p[1], Effect: corev1.TaintEffect(p[2])}}
		}
		if p := strings.Split(val(d, "label", ""), ":"); len(p) == 2 {
			n.Labels[p[0]] = p[1]
		}
	})
}

// condition sets a node's condition.
func (w *world) condition(node, kind, status string) {
	o, ok := w.state.Get(object.Key{Resource: "nodes", Name: node})
	if !ok {
		w.t.Fatalf("there is no node %s", node)
	}
	n := object.Copy(o.(*corev1.Node))
	n.Status.Conditions = slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return string(c.Type) == kind })
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(kind), Status: corev1.ConditionStatus(status), Reason: "Told"})
	w.state.Put(n)
}

func goldenDeployment(d *datadriven.TestData) string {
	n, err := strconv.Atoi(val(d, "replicas", "1"))
	if err != nil {
		n = 1
	}
	var more []string
	if has(d, "paused") {
		more = append(more, "paused: true")
	}
	if has(d, "recreate") {
		more = append(more, "strategy: {type: Recreate}")
	}
	if has(d, "surge") || has(d, "unavailable") {
		more = append(more, fmt.Sprintf("strategy: {rollingUpdate: {maxSurge: %s, maxUnavailable: %s}}", val(d, "surge", "25%"), val(d, "unavailable", "25%")))
	}
	for flag, field := range map[string]string{"history": "revisionHistoryLimit", "deadline": "progressDeadlineSeconds", "minready": "minReadySeconds"} {
		if has(d, flag) {
			more = append(more, field+": "+val(d, flag, ""))
		}
	}
	sort.Strings(more)
	return deployment(d.CmdArgs[0].Key, n, val(d, "image", "v1"), strings.Join(more, "\n  "))
}

func (w *world) goldenDelete(d *datadriven.TestData) error {
	return w.delete(keyOf(d.CmdArgs[0].Key), controller.DeleteOptions{PropagationPolicy: val(d, "policy", "")})
}

// advance moves the clock from wake to wake.
func (w *world) advance(d *datadriven.TestData) {
	by, err := time.ParseDuration(d.CmdArgs[0].Key)
	if err != nil {
		w.t.Fatal(err)
	}
	end := w.now.Add(by)
	for {
		next := end
		for _, at := range w.wakes {
			if at.Before(next) {
				next = at
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		if !w.now.Before(end) {
			break
		}
		for _, n := range vals(d, "alive") {
			w.heartbeat(n)
		}
		w.settle()
	}
	for _, n := range vals(d, "alive") {
		w.heartbeat(n)
	}
	w.settle()
}

func (w *world) show(what string) string {
	var b strings.Builder
	switch what {
	case "pods":
		per := map[string]int{}
		for o := range w.state.List("pods", "") {
			p := o.(*corev1.Pod)
			state := string(p.Status.Phase)
			if c := conditionOf(p, corev1.PodReady); c == corev1.ConditionTrue {
				state = "Ready"
			} else if c == corev1.ConditionFalse {
				state = "NotReady"
			}
			if p.DeletionTimestamp != nil {
				state = "Terminating"
			}
			node := p.Spec.NodeName
			if node == "" {
				node = "-"
			}
			per[fmt.Sprintf("%s/%s %s on %s %s", p.Namespace, p.GenerateName, p.Spec.Containers[0].Image, node, state)]++
		}
		var lines []string
		for l, n := range per {
			lines = append(lines, fmt.Sprintf("%d× %s\n", n, l))
		}
		sort.Strings(lines)
		b.WriteString(strings.Join(lines, ""))
	case "names":
		for o := range w.state.List("pods", "") {
			fmt.Fprintf(&b, "%s %s slot %s\n", o.GetName(), o.GetUID(), o.GetAnnotations()[object.AnnotationSlot])
		}
	case "deployments":
		for o := range w.state.List("deployments", "") {
			d := o.(*appsv1.Deployment)
			s := d.Status
			fmt.Fprintf(&b, "%s rev=%s gen=%d/%d replicas=%d/%d updated=%d ready=%d available=%d unavailable=%d\n", d.Name, d.Annotations["deployment.kubernetes.io/revision"],
				s.ObservedGeneration, d.Generation, s.Replicas, *d.Spec.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas)
			for _, c := range s.Conditions {
				fmt.Fprintf(&b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
			}
		}
	case "replicasets":
		for o := range w.state.List("replicasets", "") {
			rs := o.(*appsv1.ReplicaSet)
			fmt.Fprintf(&b, "%s image=%s rev=%s history=%q replicas=%d/%d ready=%d available=%d next-slot=%s owners=%d\n", rs.Name, rs.Spec.Template.Spec.Containers[0].Image,
				rs.Annotations["deployment.kubernetes.io/revision"], rs.Annotations["deployment.kubernetes.io/revision-history"], rs.Status.Replicas, *rs.Spec.Replicas,
				rs.Status.ReadyReplicas, rs.Status.AvailableReplicas, rs.Annotations["reconcile.local/next-slot"], len(rs.OwnerReferences))
		}
	case "events":
		for o := range w.state.List("events", "") {
			e := o.(*corev1.Event)
			fmt.Fprintf(&b, "%s %s %s/%s ×%d: %s\n", e.Type, e.Reason, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Count, e.Message)
		}
	case "nodes":
		for o := range w.state.List("nodes", "") {
			n := o.(*corev1.Node)
			fmt.Fprintf(&b, "%s %s", n.Name, n.Spec.PodCIDR)
			for _, c := range n.Status.Conditions {
				fmt.Fprintf(&b, " %s=%s(%s)", c.Type, c.Status, c.Reason)
			}
			for _, t := range n.Spec.Taints {
				fmt.Fprintf(&b, " %s", t.ToString())
			}
			b.WriteByte('\n')
		}
	case "endpoints":
		w.showEndpoints(&b)
	case "unplaced":
		for p := range w.state.Unbound() {
			if scheduler.Told(p) {
				i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
				fmt.Fprintf(&b, "%s (of %s): %s\n", object.KeyOf(p), controller.TopOwner(w.state, p), p.Status.Conditions[i].Message)
			}
		}
	case "commits":
		for o := range w.state.List("commits", "") {
			c := o.(*object.Commit)
			fmt.Fprintf(&b, "%s %s %d/%d %s\n", c.Name, c.Status.Phase, c.Status.Current, c.Status.Total, c.Status.Message)
			for _, x := range c.Status.Waiting {
				fmt.Fprintf(&b, "  %s %s: %s\n", x.Key(), x.Status, x.Message)
			}
		}
	default:
		if w.showWorkload(&b, what) {
			break
		}
		for o := range w.state.List(what, "") {
			fmt.Fprintf(&b, "%s", object.KeyOf(o))
			if o.GetDeletionTimestamp() != nil {
				fmt.Fprintf(&b, " deleting %v", o.GetFinalizers())
			}
			b.WriteByte('\n')
		}
	}
	if b.Len() == 0 {
		return "none\n"
	}
	return b.String()
}

func conditionOf(p *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func (w *world) showEndpoints(b *strings.Builder) {
	for o := range w.state.List("endpoints", "") {
		e := o.(*corev1.Endpoints)
		fmt.Fprintf(b, "endpoints %s/%s", e.Namespace, e.Name)
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				fmt.Fprintf(b, " %s", a.IP)
			}
			for _, a := range s.NotReadyAddresses {
				fmt.Fprintf(b, " (%s)", a.IP)
			}
			for _, p := range s.Ports {
				fmt.Fprintf(b, " %s:%d/%s", p.Name, p.Port, p.Protocol)
			}
		}
		b.WriteByte('\n')
	}
	for o := range w.state.List("endpointslices", "") {
		s := o.(*discoveryv1.EndpointSlice)
		fmt.Fprintf(b, "slice %s/%s %s: %d endpoints", s.Namespace, s.Name, s.AddressType, len(s.Endpoints))
		if len(s.Endpoints) <= 4 {
			for _, e := range s.Endpoints {
				flags := ""
				for _, f := range []struct {
					name string
					on   *bool
				}{{"r", e.Conditions.Ready}, {"s", e.Conditions.Serving}, {"t", e.Conditions.Terminating}} {
					if f.on != nil && *f.on {
						flags += f.name
					}
				}
				fmt.Fprintf(b, " %s[%s]", e.Addresses[0], flags)
			}
		}
		for _, p := range s.Ports {
			fmt.Fprintf(b, " %s:%d/%s", *p.Name, *p.Port, *p.Protocol)
		}
		b.WriteByte('\n')
	}
}
