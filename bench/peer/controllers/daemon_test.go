package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/controller"
	"reconcile/object"
)

// TestDaemonSetPlaces compares on which nodes a DaemonSet's pods are while nodes come, go, and get taints and labels.
func TestDaemonSetPlaces(t *testing.T) {
	labels := map[string]string{"app": "agent"}
	nodes := 0
	play(t, 30, func(m *match) {
		m.daemons, nodes = true, 0
		d := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}}
		d.Name = "agent"
		if m.flip(2) {
			d.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		}
		if m.flip(3) {
			d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
		}
		m.say("make %+v", d.Spec)
		m.make(d)
	}, func(m *match) {
		for done := false; !done; {
			node := fmt.Sprintf("n%d", m.rng.IntN(max(1, nodes)))
			switch n := m.rng.IntN(14); {
			case n < 3:
				m.node(fmt.Sprintf("n%d", nodes))
				nodes++
				done = true
			case n < 6:
				done = m.start()
			case n < 8:
				done = m.remove()
			case n == 8:
				done = m.kill()
			case n == 9:
				done = m.dropNode(node)
			case n == 10:
				taint := corev1.Taint{Key: pick(m, "k", "l"), Effect: pick(m, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)}
				done = m.editNode(node, "taint "+taint.ToString(), func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{taint} })
			case n == 11:
				done = m.editNode(node, "no taint", func(n *corev1.Node) { n.Spec.Taints = nil })
			case n == 12:
				disk := pick(m, "ssd", "hdd")
				done = m.editNode(node, "disk "+disk, func(n *corev1.Node) { n.Labels = map[string]string{"disk": disk} })
			case n == 13:
				image := pick(m, "v1", "v2", "v3")
				m.say("image %s", image)
				m.edit("daemonsets", "agent", func(o object.Object) { o.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Image = image })
				done = true
			}
		}
	})
}

// TestDaemonSetUpdate compares rolling updates in place. Which node is first is left to chance by Kubernetes: pods are told by what else is
// on their node. With a surge that chance decides which of several unlike nodes has two pods, which no comparison can follow.
func TestDaemonSetUpdate(t *testing.T) {
	labels := map[string]string{"app": "agent"}
	play(t, 30, func(m *match) {
		m.daemons, m.anywhere = true, true
		d := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways), MinReadySeconds: pick(m, int32(0), 0, 5)}}
		ru := &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ref(intstr.FromString(fmt.Sprintf("%d%%", 10+m.rng.IntN(60))))}
		d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: ru}
		d.Name = "agent"
		m.say("make %+v", d.Spec)
		m.make(d)
		for i := range 2 + m.rng.IntN(5) {
			m.node(fmt.Sprintf("n%d", i))
		}
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(12); {
			case n < 5:
				done = m.start()
			case n < 9:
				done = m.remove()
			case n == 9:
				m.say("wait")
				m.wait(10 * time.Second)
				done = true
			default:
				if st := m.a.list("daemonsets")[0].(*appsv1.DaemonSet).Status; st.UpdatedNumberScheduled < st.DesiredNumberScheduled {
					continue // among old pods of several images chance would choose
				}
				image := pick(m, "v1", "v2", "v3")
				m.say("image %s", image)
				m.edit("daemonsets", "agent", func(o object.Object) { o.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Image = image })
				done = true
			}
		}
	})
}

// node adds a ready node on both sides.
func (m *match) node(name string) {
	disk := pick(m, "ssd", "hdd")
	m.say("node %s, disk %s", name, disk)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": disk}}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": kresource.MustParse("100"), "memory": kresource.MustParse("100Gi"), "pods": kresource.MustParse("110")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	m.make(n)
	m.heartbeat(name)
}

// heartbeat tells our side, which looks after nodes too, that a node lives.
func (m *match) heartbeat(name string) {
	now := metav1.NewMicroTime(time.Now())
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: corev1.NamespaceNodeLease, UID: "lease"}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
	m.b.(*ours).state.Put(l)
}

func (m *match) editNode(name, what string, f func(*corev1.Node)) bool {
	found := false
	m.edit("nodes", name, func(o object.Object) {
		found = true
		f(o.(*corev1.Node))
	})
	if found {
		m.say("%s: %s", name, what)
		// Kubernetes does not look again where no pod is to come or to go, and its numbers stay behind until it does.
		m.a.settle(time.Now())
		m.edit("daemonsets", "agent", func(o object.Object) { o.SetAnnotations(map[string]string{"looked": time.Now().String()}) })
	}
	return found
}

func (m *match) dropNode(name string) bool {
	found := false
	for _, s := range []side{m.a, m.b} {
		for _, o := range s.list("nodes") {
			if o.GetName() == name {
				s.delete(o, controller.DeleteOptions{})
				found = true
			}
		}
	}
	if found {
		m.say("%s leaves", name)
		m.a.(*peer).forget(name)
		// Ours keeps a pod that no agent has seen for a while, as Kubernetes' collector of pods does: the node may be about to join.
		m.wait(30 * time.Second)
		m.wait(15 * time.Second)
	}
	return found
}

// daemonPlace is where a daemon's pod is: its node, or what else of the DaemonSet is on that.
func daemonPlace(s side, p *corev1.Pod, anywhere bool) string {
	if !anywhere {
		return p.Spec.NodeName + ":" + p.Spec.Containers[0].Image
	}
	var beside []string
	for _, o := range s.list("pods") {
		if q := o.(*corev1.Pod); q.Name != p.Name && q.Spec.NodeName == p.Spec.NodeName {
			text := q.Spec.Containers[0].Image
			if q.CreationTimestamp.Before(&p.CreationTimestamp) {
				text += " older"
			}
			if ready(q) {
				text += " ready"
			}
			if q.DeletionTimestamp != nil {
				text += " going"
			}
			beside = append(beside, text)
		}
	}
	slices.Sort(beside)
	return p.Spec.Containers[0].Image + " beside [" + strings.Join(beside, ", ") + "]"
}
