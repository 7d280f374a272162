package controllers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/klog/v2"

	"reconcile/object"
)

// TestTopologyHints compares for whom endpoints are when zones share them: nodes and pods come, go and become ready or not, and after each step our
// hints must be ones that Kubernetes' own code may give for the same slices. Of equal zones it takes one by chance, so it is asked often.
func TestTopologyHints(t *testing.T) {
	for seed := range courses(t) {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			h := &hinting{t: t, rng: drawn(seed, 2), ours: newOurs(t)}
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{corev1.AnnotationTopologyMode: "Auto"}},
				Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 80}}}}
			h.ours.make(svc)
			for range 40 {
				h.step()
				h.compare()
			}
		})
	}
}

// hinting is one course.
type hinting struct {
	t      *testing.T
	rng    *rand.Rand
	ours   *ours
	made   int
	log    []string
	before []*discoveryv1.EndpointSlice // what was shown after the step before
}

func (h *hinting) say(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// step changes a node or a pod.
func (h *hinting) step() {
	nodes, pods := h.ours.list("nodes"), h.ours.list("pods")
	h.made++
	switch n := h.rng.IntN(12); {
	case n < 2 || len(nodes) < 2:
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", h.made), Labels: map[string]string{corev1.LabelTopologyZone: string(rune('a' + h.rng.IntN(4)))}}}
		if h.rng.IntN(8) == 0 {
			node.Labels["node-role.kubernetes.io/control-plane"] = ""
		}
		node.Status.Allocatable = corev1.ResourceList{"cpu": *kresource.NewMilliQuantity(int64(1000+h.rng.IntN(9)*500), kresource.DecimalSI), "pods": kresource.MustParse("500")}
		h.say("node %s in %s with %s", node.Name, node.Labels[corev1.LabelTopologyZone], node.Status.Allocatable.Cpu())
		setNode(node, true)
		h.ours.make(node)
	case n == 2:
		node := object.Copy(nodes[h.rng.IntN(len(nodes))].(*corev1.Node))
		yes := h.rng.IntN(3) > 0
		h.say("node %s ready %v", node.Name, yes)
		setNode(node, yes)
		h.ours.state.Put(node)
	case n == 3 && len(nodes) > 2:
		node := nodes[h.rng.IntN(len(nodes))]
		h.say("node %s gone", node.GetName())
		h.ours.state.Delete(object.KeyOf(node))
	case n < 9 || len(pods) == 0:
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%03d", h.made), Namespace: "default", Labels: map[string]string{"app": "web"}}, Spec: template(nil, "v1", corev1.RestartPolicyAlways).Spec}
		p.Spec.NodeName = nodes[h.rng.IntN(len(nodes))].GetName()
		h.ours.make(p)
		p = object.Copy(p)
		p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.244.%d.%d", h.made/250, h.made%250+1)
		setReady(p, h.rng.IntN(5) > 0)
		h.say("pod %s on %s, ready %v", p.Name, p.Spec.NodeName, ready(p))
		h.ours.state.Put(p)
	case n == 9:
		p := object.Copy(pods[h.rng.IntN(len(pods))].(*corev1.Pod))
		setReady(p, !ready(p))
		h.say("pod %s ready %v", p.Name, ready(p))
		h.ours.state.Put(p)
	default:
		p := pods[h.rng.IntN(len(pods))]
		h.say("pod %s gone", p.GetName())
		h.ours.state.Delete(object.KeyOf(p))
	}
	h.ours.run(time.Now(), nil)
}

func setNode(n *corev1.Node, yes bool) {
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
}

// slices are the service's slices now.
func (h *hinting) slices() (out []*discoveryv1.EndpointSlice) {
	for _, o := range h.ours.list("endpointslices") {
		out = append(out, o.(*discoveryv1.EndpointSlice))
	}
	return out
}

// compare asks Kubernetes' code for the hints of the same endpoints.
func (h *hinting) compare() {
	now := h.slices()
	mine := hintsOf(now)
	var seen []string
	for range 5000 {
		theirs := hintsOf(h.peer(now))
		if theirs == mine {
			h.before = now
			return
		}
		if !slices.Contains(seen, theirs) {
			seen = append(seen, theirs)
		}
	}
	h.t.Fatalf("after\n  %s\nKubernetes may show\n%s\nwe show\n%s", strings.Join(h.log, "\n  "), strings.Join(seen, "or\n"), mine)
}

// peer gives copies of slices the hints of Kubernetes. Those whose endpoints are as before are given to it as unchanged, with the hints that they had.
func (h *hinting) peer(now []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	cache := topologycache.NewTopologyCache()
	var nodes []*corev1.Node
	for _, o := range h.ours.list("nodes") {
		nodes = append(nodes, o.(*corev1.Node).DeepCopy()) // it adds to the quantities of the first node of a zone
	}
	cache.SetNodes(klog.Background(), nodes)
	si := &topologycache.SliceInfo{ServiceKey: "default/web", AddressType: discoveryv1.AddressTypeIPv4}
	for _, s := range now {
		bare := withoutHints(s)
		i := slices.IndexFunc(h.before, func(b *discoveryv1.EndpointSlice) bool { return b.Name == s.Name })
		switch {
		case i < 0:
			si.ToCreate = append(si.ToCreate, bare)
		case fmt.Sprint(endpointsText(withoutHints(h.before[i]))) == fmt.Sprint(endpointsText(bare)):
			si.Unchanged = append(si.Unchanged, h.before[i].DeepCopy())
		default:
			si.ToUpdate = append(si.ToUpdate, bare)
		}
	}
	create, update, _ := cache.AddHints(klog.Background(), si)
	return slices.Concat(create, update, si.Unchanged)
}

func withoutHints(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	c := s.DeepCopy()
	for i := range c.Endpoints {
		c.Endpoints[i].Hints = nil
	}
	return c
}

func endpointsText(s *discoveryv1.EndpointSlice) (out []string) {
	for _, e := range s.Endpoints {
		zone := "-"
		if e.Zone != nil {
			zone = *e.Zone
		}
		out = append(out, fmt.Sprintf("%s in %s ready %v", e.Addresses[0], zone, *e.Conditions.Ready))
	}
	return out
}

// hintsOf is each endpoint with its hint.
func hintsOf(list []*discoveryv1.EndpointSlice) string {
	var lines []string
	for _, s := range list {
		for i, text := range endpointsText(s) {
			hint := "nobody in particular"
			if e := s.Endpoints[i]; e.Hints != nil && len(e.Hints.ForZones) > 0 {
				hint = e.Hints.ForZones[0].Name
			}
			lines = append(lines, fmt.Sprintf("  %s for %s\n", text, hint))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
