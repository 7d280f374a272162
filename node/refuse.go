package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// refusalRest is how long the agent waits before it tells of a refusal: an owner that makes another pod at once makes one a second then, and not as
// many as the server can take.
const refusalRest = time.Second

// refusal is why a pod that the agent has not seen before is not taken: the reason and the message of its status. The zero value takes it.
type refusal struct{ reason, message string }

// refuse judges a pod that the agent has not seen before, as the kubelet does: a node whose disk is too full takes critical pods only, and two pods
// cannot have one port of the node, which the scheduler sees to but for pods that name their node. A pod that ends anyway is none to refuse.
func (a *Agent) refuse(pod *corev1.Pod) refusal {
	switch {
	case pod.DeletionTimestamp != nil || ended(pod):
	case a.disk.pressed() != "" && !critical(pod):
		return refusal{reasonEvicted, "The node had condition: [DiskPressure]. "}
	case a.portTaken(pod):
		return refusal{reasonPorts, "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
	}
	return refusal{}
}

// portTaken tells whether a pod that runs here, or is about to, has a port of the node that this one wants.
func (a *Agent) portTaken(pod *corev1.Pod) bool {
	wants := hostPorts(pod)
	if len(wants) == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if other := w.holding(); other != nil && overlap(wants, hostPorts(other)) {
			return true
		}
	}
	return false
}

// holding is the worker's pod as long as it has a claim to what it asked of the node; nil after.
func (w *worker) holding() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.orphan || w.refused || ended(w.want) {
		return nil
	}
	return w.want
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
