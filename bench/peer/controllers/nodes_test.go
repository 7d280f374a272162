package controllers

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	restfake "k8s.io/client-go/rest/fake"
	"k8s.io/kubernetes/pkg/controller/nodelifecycle"

	"reconcile/object"
)

// runNodes starts Kubernetes' controller of the nodes' life, with our patience of 40 s, and the one that evicts pods. It looks at nodes a little later than each 5 s, so that no
// look falls together with one at the queue of nodes to be emptied, which is each 100 ms: which of the two came first would be chance.
func (p *peer) runNodes() {
	p.runEviction()
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	c, err := nodelifecycle.NewNodeLifecycleController(ctx, f.Coordination().V1().Leases(), f.Core().V1().Pods(), f.Core().V1().Nodes(), f.Apps().V1().DaemonSets(), withoutEvents{p.client},
		5037123*time.Microsecond, 40*time.Second, 40*time.Second, 0.1, 0.01, 50, 0.55)
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(f, func() { c.Run(ctx) })
}

// withoutEvents takes events, and keeps none: the controller writes them by a connection of its own.
type withoutEvents struct{ *fake.Clientset }

func (w withoutEvents) CoreV1() typedcorev1.CoreV1Interface { return eventless{w.Clientset.CoreV1()} }

type eventless struct{ typedcorev1.CoreV1Interface }

func (eventless) RESTClient() rest.Interface {
	return &restfake.RESTClient{NegotiatedSerializer: scheme.Codecs.WithoutConversion(), Client: restfake.CreateHTTPClient(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
	})}
}

// beat renews a node's lease on Kubernetes' side.
func (p *peer) beat(l *coordinationv1.Lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gvr := gvrOf("leases")
	p.stamp(l)
	err := p.client.Tracker().Update(gvr, l, l.Namespace)
	if err != nil {
		err = p.client.Tracker().Create(gvr, l, l.Namespace)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// nodeLines is what nodes and their pods show of the nodes' life.
func nodeLines(s side) []string {
	out := evictionLines(s)
	for _, o := range s.list("pods") {
		if p := o.(*corev1.Pod); !ready(p) {
			out = append(out, p.Name+" is not ready")
		}
	}
	for _, o := range s.list("nodes") {
		n := o.(*corev1.Node)
		line := "node " + n.Name
		for _, c := range n.Status.Conditions {
			if c.Status != corev1.ConditionFalse || c.Type == corev1.NodeReady {
				line += fmt.Sprintf(", %s=%s", c.Type, c.Status)
			}
			if c.Status == corev1.ConditionUnknown {
				line += " " + c.Reason
			}
		}
		var taints []string
		for _, t := range n.Spec.Taints {
			taints = append(taints, fmt.Sprintf("%s:%s", t.Key, t.Effect))
		}
		slices.Sort(taints)
		out = append(out, fmt.Sprintf("%s %v", line, taints))
	}
	return out
}

// report has a node's agent say how it is, and that its pods are ready if it is. Kubernetes' controller says of a lost node's pods that they are not only if the node was ready
// before.
func (m *match) report(name string, status corev1.NodeConditionType, is corev1.ConditionStatus) {
	m.beats(name)
	for _, s := range []side{m.a, m.b} {
		for _, o := range s.list("nodes") {
			if o.GetName() != name {
				continue
			}
			n := object.Copy(o.(*corev1.Node))
			for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
				i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
				if i < 0 {
					n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: corev1.ConditionUnknown})
					i = len(n.Status.Conditions) - 1
				}
				c, want := &n.Status.Conditions[i], corev1.ConditionFalse
				if t == corev1.NodeReady {
					want = corev1.ConditionTrue
				}
				if t == status {
					want = is
				}
				if c.Status != want {
					c.Status, c.Reason, c.Message, c.LastTransitionTime = want, "Told", "", metav1.Now()
				}
				c.LastHeartbeatTime = metav1.Now()
			}
			s.change(n, "status")
		}
		for _, o := range s.list("pods") {
			up := status != corev1.NodeReady || is == corev1.ConditionTrue
			if p := object.Copy(o.(*corev1.Pod)); p.Spec.NodeName == name && p.Status.Phase == corev1.PodRunning {
				setReady(p, up)
				s.change(p, "status")
			}
		}
	}
}

// beats renews a node's lease on both sides.
func (m *match) beats(name string) {
	m.heartbeat(name)
	now := metav1.NewMicroTime(time.Now())
	m.a.(*peer).beat(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: corev1.NamespaceNodeLease}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}})
}

// up tells whether a node is ready.
func (m *match) up(name string) bool {
	return slices.ContainsFunc(m.a.list("nodes"), func(o object.Object) bool {
		n := o.(*corev1.Node)
		return n.Name == name && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
}

// fallSilent has nodes fall silent: those that are ready, or if there are none, the others. Kubernetes' controller changes the taint of one that is not ready and is lost, which may
// take it 100 ms and longer, and only then sees how many others of the zone are lost at the same time: whether one of these is to be emptied before is chance.
func (m *match) fallSilent(which func(*corev1.Node) bool) {
	var up, others []string
	for _, o := range m.a.list("nodes") {
		switch n := o.(*corev1.Node); {
		case !which(n):
		case m.up(n.Name):
			up = append(up, n.Name)
		default:
			others = append(others, n.Name)
		}
	}
	if len(up) == 0 {
		up = others
	}
	for _, name := range up {
		m.say("%s falls silent", name)
		m.silent[name] = true
	}
}

// TestNodes compares what becomes of nodes that fall silent, alone, as a whole zone or all together, are heard again, say that they are not ready or short of something, or are
// closed; and of their pods, which bear that for a while, for ever or not at all. What pods bear ends at no time at which nodes are found lost: Kubernetes finds that up to 10 s later.
func TestNodes(t *testing.T) { nodeCourses(t, play) }

func nodeCourses(t *testing.T, play player) {
	nodes := []string{"n0", "n1", "n2", "n3", "n4", "n5", "n6"}
	made := 0
	play(t, 12, func(m *match) {
		made = 0
		m.lines, m.daemons, m.silent = nodeLines, true, map[string]bool{}
		m.a.(*peer).runNodes()
		zones := 1 + m.rng.IntN(3)
		for i, name := range nodes {
			m.node(name)
			m.edit("nodes", name, func(o object.Object) {
				o.SetLabels(map[string]string{corev1.LabelTopologyRegion: "r", corev1.LabelTopologyZone: fmt.Sprint("z", i*i%zones)})
			})
			m.report(name, "", "")
		}
		m.say("%d zones", zones)
	}, func(m *match) {
		name := pick(m, nodes...)
		for done := false; !done; {
			done = true
			switch n := m.rng.IntN(14); {
			case n < 4:
				var some []string
				for range 1 + m.rng.IntN(3) {
					some = append(some, pick(m, nodes...))
				}
				m.fallSilent(func(n *corev1.Node) bool { return slices.Contains(some, n.Name) })
			case n == 4:
				zone := pick(m, "z0", "z1", "z2")
				m.fallSilent(func(n *corev1.Node) bool { return n.Labels[corev1.LabelTopologyZone] == zone })
			case n < 8:
				m.say("%s is heard", name)
				m.silent[name] = false
				m.report(name, "", "")
			case n == 8:
				m.say("%s is not ready", name)
				m.silent[name] = false
				m.report(name, corev1.NodeReady, corev1.ConditionFalse)
			case n == 9:
				m.say("%s is short of disk", name)
				m.silent[name] = false
				m.report(name, corev1.NodeDiskPressure, corev1.ConditionTrue)
			case n == 10:
				closed := m.flip(2)
				m.say("%s closed: %v", name, closed)
				m.edit("nodes", name, func(o object.Object) { o.(*corev1.Node).Spec.Unschedulable = closed })
			case n < 13:
				made++
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", made), Labels: map[string]string{"app": fmt.Sprint(made)}}, Spec: template(nil, "v1", corev1.RestartPolicyNever).Spec}
				p.Spec.NodeName = name
				seconds := pick(m, -1, int64(0), 20, 200) // the same for both: see "What differs" in docs/workloads.md
				for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
					t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
					if seconds >= 0 {
						t.TolerationSeconds = &seconds
					}
					p.Spec.Tolerations = append(p.Spec.Tolerations, t)
				}
				m.say("%s on %s bears it for %d s", p.Name, name, seconds)
				m.make(p)
				m.wait(0)
				m.run(func(p *corev1.Pod) bool { return waiting(p) && !m.silent[p.Spec.NodeName] && m.up(p.Spec.NodeName) })
			default:
				done = m.remove()
			}
		}
		// A node is lost after 40 s, and they are emptied 10 s after each other.
		for range 30 {
			m.wait(5 * time.Second)
		}
	})
}
