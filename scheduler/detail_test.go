package scheduler

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDetail tells of a node that refuses a pod what it lacks, or which pods are in the way.
func TestDetail(t *testing.T) {
	labelled := func(name string, labels map[string]string) *corev1.Node {
		n := node(name, "4", "8Gi", 110)
		for k, v := range labels {
			n.Labels[k] = v
		}
		return n
	}
	c := &cluster{nodes: []*corev1.Node{labelled("n1", map[string]string{"zone": "a", "disk": "hdd"}), labelled("n2", map[string]string{"zone": "b"}), labelled("n3", nil)}}
	for i := range 5 {
		p := pod("web", i, "", "")
		p.Labels = map[string]string{"app": "web"}
		p.Spec.NodeName = "n1"
		c.pods = append(c.pods, p)
	}
	term := func(app string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
	}
	shy := pod("shy", 0, "", "")
	shy.Labels, shy.Spec.NodeName = map[string]string{"app": "shy"}, "n2"
	shy.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term("loud")}}
	c.pods = append(c.pods, shy)
	expr := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	for name, x := range map[string]struct {
		change func(*corev1.Pod)
		want   []string // by node
	}{
		"nodeSelector": {func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd", "zone": "a"} },
			[]string{"nodeSelector wants disk=ssd, the node has disk=hdd", "nodeSelector wants disk=ssd, the node has no label disk; nodeSelector wants zone=a, the node has zone=b",
				"nodeSelector wants disk=ssd, the node has no label disk; nodeSelector wants zone=a, the node has no label zone"}},
		"node affinity": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{expr("zone", corev1.NodeSelectorOpIn, "b", "c"), expr("disk", corev1.NodeSelectorOpExists)}}}}
		}, []string{"", "", "node affinity wants zone In [b c] where the node has no label zone, or disk Exists where the node has no label disk"}},
		"affinity": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term("web")}}
		}, []string{"", "no pod with app=web is in zone=b", "the node has no label zone"}},
		"anti-affinity": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term("web")}}
		}, []string{"it does not go with default/web0, default/web1, default/web2 and 2 more in zone=a", "", ""}},
		"others' anti-affinity": {func(p *corev1.Pod) { p.Labels = map[string]string{"app": "loud"} },
			[]string{"", "it is not let near default/shy0 in zone=b", ""}},
	} {
		p := pod("new", 0, "", "")
		x.change(p)
		var got []string
		for _, v := range Explain(c, p) {
			got = append(got, strings.Join(v.Detail, "; "))
		}
		if fmt.Sprint(got) != fmt.Sprint(x.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, x.want)
		}
	}
}
