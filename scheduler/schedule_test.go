package scheduler

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"reconcile/object"
)

// cluster is nodes and pods as a Source.
type cluster struct {
	nodes []*corev1.Node
	pods  []*corev1.Pod
	more  []object.Object
}

func (c *cluster) List(resource, namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for _, n := range c.nodes {
			if resource == "nodes" && !yield(n) {
				return
			}
		}
		for _, o := range c.more {
			if k := object.KeyOf(o); k.Resource == resource && (namespace == "" || k.Namespace == namespace) && !yield(o) {
				return
			}
		}
	}
}

func (c *cluster) Get(k object.Key) (object.Object, bool) {
	for o := range c.List(k.Resource, k.Namespace) {
		if o.GetName() == k.Name {
			return o, true
		}
	}
	return nil, false
}

func (c *cluster) Unbound() iter.Seq[*corev1.Pod] { return c.PodsOn("") }

func (c *cluster) PodsOn(node string) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for _, p := range c.pods {
			if p.Spec.NodeName == node && !yield(p) {
				return
			}
		}
	}
}

func node(name, cpu, memory string, pods int64) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory), "pods": *resource.NewQuantity(pods, resource.DecimalSI)}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func pod(owner string, slot int, cpu, memory string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: owner + strconv.Itoa(slot), Namespace: "default", UID: types.UID(owner + strconv.Itoa(slot)),
		Annotations: map[string]string{object.AnnotationSlot: strconv.Itoa(slot)}}}
	if owner != "" {
		yes := true
		p.Labels = map[string]string{"app": owner}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: &yes}}
	}
	requests := corev1.ResourceList{}
	if cpu != "" {
		requests["cpu"] = resource.MustParse(cpu)
	}
	if memory != "" {
		requests["memory"] = resource.MustParse(memory)
	}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}}
	return p
}

// TestRules asks of one node whether it takes a pod, and why not.
func TestRules(t *testing.T) {
	gpu := corev1.ResourceName("example.com/gpu")
	always := corev1.ContainerRestartPolicyAlways
	for _, tc := range []struct {
		name string
		node func(*corev1.Node)
		pod  func(*corev1.Pod)
		on   []*corev1.Pod
		want string // PLUGIN: REASONS, empty if it fits
	}{
		{name: "fits"},
		{name: "cpu and memory", pod: func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("3"), "memory": resource.MustParse("9Gi")}
		}, want: "NodeResourcesFit: Insufficient cpu, Insufficient memory"},
		{name: "exactly full fits", pod: func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2") }},
		{name: "what runs counts", on: []*corev1.Pod{pod("a", 1, "1900m", "")}, want: "NodeResourcesFit: Insufficient cpu"},
		{name: "what has ended does not", on: []*corev1.Pod{func() *corev1.Pod {
			p := pod("a", 1, "1900m", "")
			p.Status.Phase = corev1.PodSucceeded
			return p
		}()}},
		{name: "number of pods", node: func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("0") }, want: "NodeResourcesFit: Too many pods"},
		{name: "extended resource", pod: func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests[gpu] = resource.MustParse("1") }, want: "NodeResourcesFit: Insufficient example.com/gpu"},
		{name: "extended resource there", node: func(n *corev1.Node) { n.Status.Allocatable[gpu] = resource.MustParse("1") },
			pod: func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests[gpu] = resource.MustParse("1") }},
		{name: "init peak", pod: func(p *corev1.Pod) { p.Spec.InitContainers = pod("", 0, "3", "").Spec.Containers }, want: "NodeResourcesFit: Insufficient cpu"},
		{name: "sidecar adds", pod: func(p *corev1.Pod) {
			p.Spec.InitContainers = pod("", 0, "1950m", "").Spec.Containers
			p.Spec.InitContainers[0].RestartPolicy = &always
		}, want: "NodeResourcesFit: Insufficient cpu"},
		{name: "overhead", pod: func(p *corev1.Pod) { p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("1950m")} }, want: "NodeResourcesFit: Insufficient cpu"},
		{name: "a device's claim", pod: func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("one-gpu")}}
		}, want: `DynamicResources: resourceclaim.resource.k8s.io "one-gpu" not found`},
		{name: "a device's claim of a template", pod: func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: ptr.To("gpus")}}
		}, want: `DynamicResources: waiting for the ResourceClaim of the pod's claim "gpu" to be made`},
		{name: "unschedulable", node: func(n *corev1.Node) { n.Spec.Unschedulable = true }, want: "NodeUnschedulable: node(s) were unschedulable"},
		{name: "unschedulable tolerated", node: func(n *corev1.Node) { n.Spec.Unschedulable = true },
			pod: func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists}}
			}},
		{name: "taint", node: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}
		}, want: "TaintToleration: node(s) had untolerated taint(s)"},
		{name: "taint that only warns", node: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectPreferNoSchedule}}
		}},
		{name: "second taint", node: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}, {Key: "l", Effect: corev1.TaintEffectNoExecute}}
		}, pod: func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Value: "v"}} }, want: "TaintToleration: node(s) had untolerated taint(s)"},
		{name: "selector", pod: func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }, want: "NodeAffinity: node(s) didn't match Pod's node affinity/selector"},
		{name: "affinity", pod: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"n"}}}}}}}}
		}, want: "NodeAffinity: node(s) didn't match Pod's node affinity/selector"},
		{name: "never said ready", node: func(n *corev1.Node) { n.Status.Conditions = nil }, want: "NodeReady: node(s) were not ready"},
		{name: "port", pod: func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, HostIP: "10.0.0.1"}}
		},
			on: []*corev1.Pod{func() *corev1.Pod {
				p := pod("a", 1, "", "")
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}}
				return p
			}()}, want: "NodePorts: node(s) didn't have free ports for the requested pod ports"},
		{name: "port of another address", pod: func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, HostIP: "10.0.0.1"}}
		},
			on: []*corev1.Pod{func() *corev1.Pod {
				p := pod("a", 1, "", "")
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, HostIP: "10.0.0.2"}, {HostPort: 80, Protocol: corev1.ProtocolUDP}}
				return p
			}()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &cluster{nodes: []*corev1.Node{node("n", "2", "8Gi", 10)}, pods: tc.on}
			for _, p := range tc.on {
				p.Spec.NodeName = "n"
			}
			if tc.node != nil {
				tc.node(c.nodes[0])
			}
			p := pod("x", 0, "200m", "64Mi")
			if tc.pod != nil {
				tc.pod(p)
			}
			v := Explain(c, p)[0]
			got := ""
			if len(v.Reasons) > 0 {
				got = v.Plugin + ": " + strings.Join(v.Reasons, ", ")
			}
			if got != tc.want || v.Fits != (tc.want == "") || v.Fits != (v.Score > 0) {
				t.Errorf("got %q (fits %v, score %d), want %q", got, v.Fits, v.Score, tc.want)
			}
			d := NewSnapshot(c).Schedule([]*corev1.Pod{p})[0]
			if (d.Node == "n") != (tc.want == "") || (d.Message == "") != (tc.want == "") {
				t.Errorf("Schedule says %+v, Explain %q", d, got)
			}
		})
	}
}

func TestTolerates(t *testing.T) {
	taint := corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoExecute}
	for _, tc := range []struct {
		tol  corev1.Toleration
		want bool
	}{
		{corev1.Toleration{Key: "k", Value: "v"}, true},
		{corev1.Toleration{Key: "k", Value: "w"}, false},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists}, true},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}, false},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, true},
		{corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		{corev1.Toleration{Key: "j", Operator: corev1.TolerationOpExists}, false},
		{corev1.Toleration{Key: "k", Operator: "Gt", Value: "1"}, false},
	} {
		if got := Tolerates([]corev1.Toleration{tc.tol}, &taint); got != tc.want {
			t.Errorf("%+v: %v", tc.tol, got)
		}
	}
}

// TestSpread: an owner's pods go to all nodes alike, whatever else runs there, and a message counts each reason.
func TestSpread(t *testing.T) {
	c := &cluster{}
	web := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	web.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	c.more = append(c.more, web)
	for i := range 5 {
		c.nodes = append(c.nodes, node(fmt.Sprintf("n%d", i), "8", "32Gi", 110))
	}
	other := pod("other", 0, "1", "1Gi")
	other.Spec.NodeName = "n0"
	c.pods = append(c.pods, other)
	var pods []*corev1.Pod
	for i := range 50 {
		pods = append(pods, pod("web", i, "100m", "64Mi"))
	}
	count := map[string]int{}
	for _, d := range NewSnapshot(c).Schedule(pods) {
		count[d.Node]++
	}
	for _, n := range c.nodes {
		if count[n.Name] != 10 {
			t.Errorf("%s has %d of 50 pods: %v", n.Name, count[n.Name], count)
		}
	}
	c.nodes[0].Spec.Unschedulable = true
	d := NewSnapshot(c).Schedule([]*corev1.Pod{pod("big", 0, "9", "")})[0]
	if d.Message != "0/5 nodes are available: 1 node(s) were unschedulable, 4 Insufficient cpu. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling." {
		t.Error(d.Message)
	}
}

// TestScheduleProperties: with random nodes and pods, no node takes more than it has; a pod without a node fits nowhere; every pod is
// on a node with the best score of its moment, as the slow way finds it; and the order of nodes in the source does not matter.
func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &cluster{}
		for i := range rapid.IntRange(0, 6).Draw(rt, "nodes") {
			n := node(fmt.Sprintf("n%d", i), rapid.SampledFrom([]string{"1", "2", "4"}).Draw(rt, "cpu"), "4Gi", rapid.Int64Range(1, 12).Draw(rt, "pods"))
			n.Labels["disk"] = rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(rt, "disk")
			n.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"z1", "z2"}).Draw(rt, "zone")
			n.Spec.Unschedulable = rapid.IntRange(0, 5).Draw(rt, "cordon") == 0
			c.nodes = append(c.nodes, n)
		}
		var pods []*corev1.Pod
		for i := range rapid.IntRange(1, 30).Draw(rt, "pods") {
			p := pod(rapid.SampledFrom([]string{"a", "b", ""}).Draw(rt, "owner"), i, rapid.SampledFrom([]string{"", "100m", "700m"}).Draw(rt, "cpu"), "")
			if rapid.Bool().Draw(rt, "selective") {
				p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
			}
			drawOthers(rt, p)
			pods = append(pods, p)
		}
		got := NewSnapshot(c).Schedule(pods)
		reverse := &cluster{nodes: slices.Clone(c.nodes)}
		slices.Reverse(reverse.nodes)
		if again := NewSnapshot(reverse).Schedule(pods); !slices.EqualFunc(got, again, func(a, b Decision) bool { return a.Node == b.Node && a.Message == b.Message }) {
			rt.Fatal("the order of nodes changed a decision")
		}
		// The slow way: a new snapshot for each pod.
		slow := &cluster{nodes: c.nodes}
		for _, d := range got {
			best := int64(-1)
			for _, v := range Explain(slow, d.Pod) {
				if v.Fits {
					best = max(best, v.Score)
				}
			}
			for _, v := range Explain(slow, d.Pod) {
				if v.Node == d.Node && (!v.Fits || v.Score != best) {
					rt.Fatalf("%s is on %s with %+v; the best is %d", d.Pod.Name, d.Node, v, best)
				}
			}
			if (best >= 0) != (d.Node != "") {
				rt.Fatalf("%s: node %q, best score %d", d.Pod.Name, d.Node, best)
			}
			if d.Node != "" {
				p := d.Pod.DeepCopy()
				p.Spec.NodeName = d.Node
				slow.pods = append(slow.pods, p)
			}
		}
		checkPlaced(rt, slow)
	})
}

// drawOthers gives a pod rules about other pods, now and then.
func drawOthers(rt *rapid.T, p *corev1.Pod) {
	key := rapid.SampledFrom([]string{corev1.LabelHostname, corev1.LabelTopologyZone}).Draw(rt, "topology")
	own := &metav1.LabelSelector{MatchLabels: p.Labels}
	term := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: own}
	switch rapid.IntRange(0, 9).Draw(rt, "rule") {
	case 0:
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
	case 1:
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
	case 2:
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: term}}}}
	case 3, 4:
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: own}}
	case 5:
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: own}}
	case 6:
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}}
	}
}

// checkPlaced holds what runs against what must never be: a node with more than it has, a port taken twice, anti-affinity broken.
func checkPlaced(rt *rapid.T, c *cluster) {
	for _, n := range c.nodes {
		cpu, ports, count := int64(0), 0, int64(0)
		for p := range c.PodsOn(n.Name) {
			q := p.Spec.Containers[0].Resources.Requests["cpu"]
			cpu += q.MilliValue()
			ports += len(p.Spec.Containers[0].Ports)
			count++
			if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
				continue
			}
			key := p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].TopologyKey
			for _, m := range c.nodes {
				for q := range c.PodsOn(m.Name) {
					if q != p && m.Labels[key] == n.Labels[key] && q.Labels["app"] == p.Labels["app"] && q.Labels != nil && p.Labels != nil {
						rt.Fatalf("%s on %s and %s on %s are too near", p.Name, n.Name, q.Name, m.Name)
					}
				}
			}
		}
		if cpu > n.Status.Allocatable.Cpu().MilliValue() || ports > 1 || count > n.Status.Allocatable.Pods().Value() {
			rt.Fatalf("%s has %d pods, %dm of cpu and port 80 %d times", n.Name, count, cpu, ports)
		}
	}
}

// TestPreferNoSchedule: a taint of that effect sends pods elsewhere while there is an elsewhere, unless they tolerate it.
func TestPreferNoSchedule(t *testing.T) {
	c := &cluster{nodes: []*corev1.Node{node("a", "1", "1Gi", 110), node("b", "8", "8Gi", 110)}}
	c.nodes[1].Spec.Taints = []corev1.Taint{{Key: "spot", Value: "yes", Effect: corev1.TaintEffectPreferNoSchedule}}
	shy, bold := pod("x", 0, "500m", ""), pod("y", 0, "500m", "")
	bold.Spec.Tolerations = []corev1.Toleration{{Key: "spot", Operator: corev1.TolerationOpExists}}
	second := pod("z", 0, "600m", "")
	var got []string
	for _, d := range NewSnapshot(c).Schedule([]*corev1.Pod{bold, shy, second}) {
		got = append(got, d.Node)
	}
	// The large node suits bold best; shy takes the small one; second has no room but on the tainted one.
	if want := []string{"b", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("placed on %v, want %v", got, want)
	}
}
