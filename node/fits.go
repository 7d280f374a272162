package node

import (
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// fits judges by what is known of a node and of the pods that are on it whether one more may come, and tells the first fault in the kubelet's order:
// the operating system, what is left of the node, its labels, the ports of it that others have, the taints that drive pods out. Of a node that is
// nil, or says nothing of what it has, no room is known, and it takes what comes. Nothing is changed.
func fits(pod *corev1.Pod, n *corev1.Node, others []*corev1.Pod) refusal {
	if pod.Spec.OS != nil && string(pod.Spec.OS.Name) != goruntime.GOOS {
		return refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if n != nil {
		if no := room(pod, n.Status.Allocatable, others); no.reason != "" {
			return no
		}
		if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); err != nil || !ok {
			return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
		}
	}
	wants := hostPorts(pod)
	if len(wants) > 0 && slices.ContainsFunc(others, func(o *corev1.Pod) bool { return overlap(wants, hostPorts(o)) }) {
		return predicate(reasonPorts, "node(s) didn't have free ports for the requested pod ports")
	}
	if n == nil {
		return refusal{}
	}
	drives := func(t *corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }
	if _, driven := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Logger{}, n.Spec.Taints, pod.Spec.Tolerations, drives, false); driven {
		return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return refusal{}
}

func predicate(name, fault string) refusal {
	return refusal{name, "Predicate " + name + " failed: " + fault}
}

// room tells what of a node is too little for a pod beside the others.
func room(pod *corev1.Pod, offers corev1.ResourceList, others []*corev1.Pod) refusal {
	if len(offers) == 0 {
		return refusal{}
	}
	lacks := func(name corev1.ResourceName, asked, used, offered int64) (refusal, bool) {
		if asked <= offered-used {
			return refusal{}, false
		}
		return refusal{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, asked, used, offered)}, true
	}
	if no, short := lacks(corev1.ResourcePods, 1, int64(len(others)), offers.Pods().Value()); short {
		return no
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, name := range inKubeletsOrder(requests) {
		offered, known := offers[name]
		asked := amount(requests, name)
		if asked == 0 || !known && extended(name) {
			continue // what no node has is not of the node
		}
		used := int64(0)
		for _, o := range others {
			used += amount(resource.PodRequests(o, resource.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}), name)
		}
		if no, short := lacks(name, asked, used, amount(corev1.ResourceList{name: offered}, name)); short {
			return no
		}
	}
	return refusal{}
}

// inKubeletsOrder are the names of a list: processors, memory, storage, then the rest by name.
func inKubeletsOrder(list corev1.ResourceList) []corev1.ResourceName {
	first := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	rest := slices.DeleteFunc(slices.Sorted(maps.Keys(list)), func(name corev1.ResourceName) bool { return slices.Contains(first, name) })
	return append(first, rest...)
}

// amount is how much of one resource a list names: of processors the thousandths.
func amount(list corev1.ResourceList, name corev1.ResourceName) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// extended tells whether a resource is one that Kubernetes itself does not know.
func extended(name corev1.ResourceName) bool {
	s := string(name)
	return strings.Contains(s, "/") && !strings.Contains(s, "kubernetes.io/") && !strings.HasPrefix(s, "requests.")
}

// hostPorts are the ports of the node that a pod asks for.
func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				out = append(out, p)
			}
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; isSidecar(c) {
			add(c)
		}
	}
	return out
}

// overlap tells whether two pods cannot both have their ports: of one protocol and number, at one address of the node or one at all of them.
func overlap(a, b []corev1.ContainerPort) bool {
	anywhere := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	protocol := func(p corev1.Protocol) corev1.Protocol {
		if p == "" {
			return corev1.ProtocolTCP
		}
		return p
	}
	for _, x := range a {
		for _, y := range b {
			if x.HostPort == y.HostPort && protocol(x.Protocol) == protocol(y.Protocol) && (x.HostIP == y.HostIP || anywhere(x.HostIP) || anywhere(y.HostIP)) {
				return true
			}
		}
	}
	return false
}
