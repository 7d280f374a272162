package controllers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/tainteviction"

	"reconcile/object"
)

// runEviction starts Kubernetes' controller that evicts pods from nodes with taints.
func (p *peer) runEviction() {
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	core := f.Core().V1()
	// The controller of the nodes' life, which does not run here, would add it.
	if err := core.Pods().Informer().AddIndexers(cache.Indexers{"spec.nodeName": func(o any) ([]string, error) { return []string{o.(*corev1.Pod).Spec.NodeName}, nil }}); err != nil {
		p.t.Fatal(err)
	}
	c, err := tainteviction.New(ctx, p.client, core.Pods(), core.Nodes(), "taint-eviction-controller")
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(f, func() { c.Run(ctx) })
}

// evictionLines is what pods show of an eviction.
func evictionLines(s side) (out []string) {
	for _, o := range s.list("pods") {
		p := o.(*corev1.Pod)
		line := fmt.Sprintf("%s on %s: %s", p.Name, p.Spec.NodeName, p.Status.Phase)
		if p.DeletionTimestamp != nil {
			line += ", going"
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.DisruptionTarget {
				line += fmt.Sprintf(", %s %s %q", c.Status, c.Reason, c.Message)
			}
		}
		out = append(out, line)
	}
	return out
}

// toleration draws what a pod bears.
func toleration(m *match) corev1.Toleration {
	t := corev1.Toleration{Key: pick(m, "a", "b", "c"), Operator: corev1.TolerationOpExists, Effect: pick(m, corev1.TaintEffectNoExecute, corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, "")}
	switch m.rng.IntN(4) {
	case 0:
		t.Operator, t.Value = corev1.TolerationOpEqual, pick(m, "x", "y")
	case 1:
		t.Key = ""
	}
	if t.Effect == corev1.TaintEffectNoExecute && !m.flip(3) {
		t.TolerationSeconds = ref(pick(m, int64(-1), 0, 10, 30, 90, 200))
	}
	return t
}

// TestTaints compares which pods leave nodes with taints and when: pods that bear them for ever, for a while or not at all, those that come to a node that has
// taints already, taints that go in time, and pods that have ended. A node gets its taints at once: of one that comes later, Kubernetes' controller takes the time
// only where the pod was not to leave anyway.
func TestTaints(t *testing.T) {
	made := 0
	nodes := []string{"n0", "n1"}
	play(t, 40, func(m *match) {
		made = 0
		m.daemons, m.lines = true, evictionLines
		m.a.(*peer).runEviction()
		for _, n := range nodes {
			m.node(n)
		}
	}, func(m *match) {
		node := pick(m, nodes...)
		for done := false; !done; {
			switch n := m.rng.IntN(14); {
			case n < 4:
				made++
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", made), Labels: map[string]string{"app": fmt.Sprint(made)}}, Spec: template(nil, "v1", corev1.RestartPolicyNever).Spec}
				p.Spec.NodeName = node
				for range m.rng.IntN(4) {
					p.Spec.Tolerations = append(p.Spec.Tolerations, toleration(m))
				}
				m.say("pod %s on %s bears %v", p.Name, node, p.Spec.Tolerations)
				m.make(p)
				done = true
			case n < 6:
				done = m.start()
			case n == 6:
				done = m.end(int32(m.rng.IntN(2)), func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && alive(p) })
			case n == 7:
				done = m.remove()
			case n == 8:
				m.say("no taints on %s", node)
				m.edit("nodes", node, func(o object.Object) { o.(*corev1.Node).Spec.Taints = nil })
				done = true
			case n < 11:
				if len(m.a.list("nodes")[slices.Index(nodes, node)].(*corev1.Node).Spec.Taints) > 0 {
					continue
				}
				var taints []corev1.Taint
				for _, key := range []string{"a", "b", "c"} {
					if m.flip(2) {
						taints = append(taints, corev1.Taint{Key: key, Value: pick(m, "x", "y"), Effect: pick(m, corev1.TaintEffectNoExecute, corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule)})
					}
				}
				if done = len(taints) > 0; done {
					m.say("taints of %s %v", node, taints)
					m.edit("nodes", node, func(o object.Object) { o.(*corev1.Node).Spec.Taints = append([]corev1.Taint{}, taints...) })
				}
			default:
				d := time.Duration(5+m.rng.IntN(60)) * time.Second
				m.say("wait %s", d)
				for range d / (5 * time.Second) {
					m.wait(5 * time.Second) // nodes are heard of in between
				}
				done = true
			}
		}
	})
}
