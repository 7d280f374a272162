package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestFits holds what a node refuses, with a kubelet's reason and message, and the first fault of several.
func TestFits(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = kresource.MustParse(pairs[i+1])
		}
		return out
	}
	asks := func(pairs ...string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list(pairs...)}}}}}
	}
	with := func(p *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
		change(p)
		return p
	}
	selects := func(key, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
	}
	requires := func(op corev1.NodeSelectorOperator, key string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op}}}}}}}
		}
	}
	port := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
	}
	tolerates := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "gone", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}
	}
	windows := func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"disk": "ssd"}}, Status: corev1.NodeStatus{
		Allocatable: list("cpu", "2", "memory", "1Gi", "ephemeral-storage", "10Gi", "pods", "4", "example.com/gpu", "1", "hugepages-2Mi", "0")}}
	tainted := node.DeepCopy()
	tainted.Spec.Taints = []corev1.Taint{{Key: "stays", Effect: corev1.TaintEffectNoSchedule}, {Key: "gone", Effect: corev1.TaintEffectNoExecute}}
	others := []*corev1.Pod{asks("cpu", "500m", "memory", "512Mi", "example.com/gpu", "1"), with(asks("cpu", "1"), port)}
	full := []*corev1.Pod{asks(), asks(), asks(), asks()}
	for _, c := range []struct {
		name            string
		pod             *corev1.Pod
		node            *corev1.Node
		others          []*corev1.Pod
		reason, message string
	}{
		{"room for just this", asks("cpu", "500m", "memory", "512Mi"), node, others, "", ""},
		{"processors", asks("cpu", "501m"), node, others, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		{"memory", asks("memory", "513Mi", "ephemeral-storage", "11Gi"), node, others, "OutOfmemory", "Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824"},
		{"storage", asks("ephemeral-storage", "11Gi"), node, others, "OutOfephemeral-storage", "Node didn't have enough resource: ephemeral-storage, requested: 11811160064, used: 0, capacity: 10737418240"},
		{"pods", asks("cpu", "9"), node, full, "OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 4, capacity: 4"},
		{"a device that others have", asks("example.com/gpu", "1"), node, others, "OutOfexample.com/gpu", "Node didn't have enough resource: example.com/gpu, requested: 1, used: 1, capacity: 1"},
		{"a device that is none of the node's", asks("example.com/tpu", "1"), node, others, "", ""},
		{"huge pages", asks("hugepages-2Mi", "2Mi", "hugepages-1Gi", "0"), node, others, "OutOfhugepages-2Mi", "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"},
		{"huge pages of another size", asks("hugepages-1Gi", "1Gi"), node, others, "OutOfhugepages-1Gi", "Node didn't have enough resource: hugepages-1Gi, requested: 1073741824, used: 0, capacity: 0"},
		{"its label", with(asks(), selects("disk", "ssd")), node, others, "", ""},
		{"another label", with(asks(), selects("disk", "hdd")), node, others, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"a required affinity that it meets", with(asks(), requires(corev1.NodeSelectorOpExists, "disk")), node, others, "", ""},
		{"a required affinity", with(asks(), requires(corev1.NodeSelectorOpDoesNotExist, "disk")), node, others, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"a port", with(asks(), port), node, others, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"a taint", asks(), tainted, others, "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{"a taint that it tolerates", with(asks(), tolerates), tainted, others, "", ""},
		{"of all the first", with(with(asks("cpu", "3"), port), selects("disk", "hdd")), tainted, others, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 3000, used: 1500, capacity: 2000"},
		{"another system", with(asks("cpu", "3"), windows), node, others, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"},
		{"a node that is not known, with a port", with(asks("cpu", "3"), port), nil, others, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"a node that is not known", asks("cpu", "3"), nil, others, "", ""},
		{"a node that says nothing", asks("cpu", "3"), &corev1.Node{}, others, "", ""},
	} {
		if got := fits(c.pod, c.node, c.others); got.reason != c.reason || got.message != c.message {
			t.Errorf("%s: %s: %s, want %s: %s", c.name, got.reason, got.message, c.reason, c.message)
		}
	}
}
