package controllers

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/kubernetes/pkg/controller/disruption"

	"reconcile/object"
)

// runBudgets starts Kubernetes' controller of PodDisruptionBudgets.
func (p *peer) runBudgets() {
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	core, apps := f.Core().V1(), f.Apps().V1()
	// Controllers whose size only a scale subresource tells are not in the courses.
	c := disruption.NewDisruptionController(ctx, core.Pods(), f.Policy().V1().PodDisruptionBudgets(), core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
		p.client, apimeta.NewDefaultRESTMapper(nil), nil, p.client.Discovery())
	p.run(f, func() { c.Run(ctx) })
}

// budgetLines is what budgets show. Since when an eviction is allowed is left out: Kubernetes' controller may see a change of a size in two parts.
func budgetLines(s side) (out []string) {
	for _, o := range s.list("poddisruptionbudgets") {
		b := o.(*policyv1.PodDisruptionBudget)
		st := b.Status
		out = append(out, fmt.Sprintf("budget %s: %d expected, %d desired, %d healthy, %d allowed, %d under way, generation %d of %d", b.Name, st.ExpectedPods, st.DesiredHealthy, st.CurrentHealthy,
			st.DisruptionsAllowed, len(st.DisruptedPods), st.ObservedGeneration, b.Generation))
		for _, c := range st.Conditions {
			out = append(out, fmt.Sprintf("budget %s: %s=%s %s at %d %q", b.Name, c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message))
		}
	}
	return out
}

// budget draws what a budget says.
func budget(m *match) (spec policyv1.PodDisruptionBudgetSpec) {
	number := ref(intstr.FromInt32(int32(m.rng.IntN(5))))
	if m.flip(2) {
		number = ref(intstr.FromString(fmt.Sprintf("%d%%", pick(m, 0, 1, 33, 50, 67, 100))))
	}
	if m.flip(2) {
		spec.MinAvailable = number
	} else {
		spec.MaxUnavailable = number
	}
	spec.Selector = pick(m, &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}, &metav1.LabelSelector{},
		&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "y"}}}})
	return spec
}

// TestBudgets compares the status of PodDisruptionBudgets over two controllers' pods and pods of nobody that come, go, become ready or not, and are
// evicted, also without going; sizes and budgets change. There is one budget: of several that select a pod, Kubernetes looks at one only.
func TestBudgets(t *testing.T) {
	started := 0
	play(t, 50, func(m *match) {
		m.lines = budgetLines
		m.a.(*peer).runBudgets()
		labels := map[string]string{"app": "x"}
		rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ref(int32(m.rng.IntN(6))), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways)}}
		rs.Name = "x"
		other := map[string]string{"app": "y"}
		pods := template(other, "v1", corev1.RestartPolicyAlways)
		rc := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Replicas: ref(int32(m.rng.IntN(3))), Selector: other, Template: &pods}}
		rc.Name = "y"
		m.make(rs)
		m.make(rc)
		b := &policyv1.PodDisruptionBudget{Spec: budget(m)}
		b.Name = "b"
		m.say("make %s %+v", b.Name, b.Spec)
		m.make(b)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(20); {
			case n < 13:
				done = m.live(n, 6, m.nextAs(&started), []int32{0, 1})
			case n == 13:
				size := int32(m.rng.IntN(7))
				m.say("replicas %d", size)
				m.edit("replicasets", "x", func(o object.Object) { o.(*appsv1.ReplicaSet).Spec.Replicas = &size })
				done = true
			case n == 14:
				size := int32(m.rng.IntN(4))
				m.say("replicas of y %d", size)
				m.edit("replicationcontrollers", "y", func(o object.Object) { o.(*corev1.ReplicationController).Spec.Replicas = &size })
				done = true
			case n == 15:
				started++
				alone := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("alone%d", started), Labels: map[string]string{"app": "z"}}, Spec: template(nil, "v1", corev1.RestartPolicyAlways).Spec}
				m.say("make %s", alone.Name)
				m.make(alone)
				done = true
			case n == 16:
				spec := budget(m)
				m.say("budget %+v", spec)
				m.edit("poddisruptionbudgets", "b", func(o object.Object) { o.(*policyv1.PodDisruptionBudget).Spec = *spec.DeepCopy() })
				done = true
			case n == 17 || n == 18:
				done = m.evict()
			default:
				d := time.Duration(m.rng.IntN(100)) * time.Second
				m.say("wait %s", d)
				m.wait(d)
				done = true
			}
		}
		// Kubernetes' controller hears of pods and not of their owners: a size that it reads too early stays until it looks again.
		m.wait(time.Second)
		m.edit("poddisruptionbudgets", "b", func(o object.Object) { o.SetAnnotations(map[string]string{"looked": time.Now().String()}) })
	})
}

// evict notes an eviction of a pod in a budget, as the API server does before it deletes the pod, which is not done.
func (m *match) evict() bool {
	// Those that were numbered are told apart: which of others goes when a size shrinks is chance.
	a, b, line, ok := m.somePod(func(p *corev1.Pod) bool { return alive(p) && p.Annotations[corev1.PodDeletionCost] != "" })
	if !ok {
		return false
	}
	m.say("evict %s", line)
	for s, p := range map[side]*corev1.Pod{m.a: a, m.b: b} {
		for _, o := range s.list("poddisruptionbudgets") {
			c := object.Copy(o).(*policyv1.PodDisruptionBudget)
			if c.Status.DisruptedPods == nil {
				c.Status.DisruptedPods = map[string]metav1.Time{}
			}
			c.Status.DisruptedPods[p.Name] = metav1.Now()
			c.Status.DisruptionsAllowed = max(0, c.Status.DisruptionsAllowed-1)
			s.change(c, "status")
		}
	}
	return true
}

// TestWhatIsWrongIsSeen does something on our side only: what the judges compare must differ then.
func TestWhatIsWrongIsSeen(t *testing.T) {
	labels := map[string]string{"app": "x"}
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: template(nil, "v1", corev1.RestartPolicyAlways).Spec}
		p.Spec.NodeName = "n"
		return p
	}
	for name, c := range map[string]struct {
		lines func(side) []string
		begin func(m *match)
		wrong func(m *match)
	}{
		"budgets": {budgetLines, func(m *match) {
			m.a.(*peer).runBudgets()
			b := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ref(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels}}}
			b.Name = "b"
			m.make(b)
			m.make(pod("p"))
		}, func(m *match) { m.b.make(pod("q")) }},
		"quotas": {quotaLines, func(m *match) {
			m.a.(*peer).runQuotas()
			m.make(quota("q", nil, "pods", "9"))
			m.make(pod("p"))
		}, func(m *match) { m.b.make(pod("q")) }},
		"taints": {evictionLines, func(m *match) {
			m.a.(*peer).runEviction()
			m.make(pod("p"))
		}, func(m *match) {
			m.edits(m.b, "nodes", "n", func(o object.Object) {
				o.(*corev1.Node).Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &match{t: t, a: newPeer(t), b: newOurs(t), lines: c.lines}
				c.begin(m)
				m.b.(*ours).host("n")
				m.wait(pause)
				m.compare()
				c.wrong(m)
				m.wait(pause)
				if want, got := m.both(); want == got {
					t.Errorf("nothing is seen:\n%s", want)
				}
			})
		})
	}
}
