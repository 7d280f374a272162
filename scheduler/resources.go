package scheduler

import (
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
)

// amounts are resources: millicores, bytes, and whole numbers of the rest.
type amounts struct {
	cpu, memory, storage int64
	other                map[corev1.ResourceName]int64
}

type score struct{ cpu, memory int64 }

// What scoring assumes of a container that asks for nothing, as kube-scheduler does (pkg/scheduler/util/pod_resources.go).
const (
	defaultCPU    = 100
	defaultMemory = 200 << 20
)

// amountsOf reads a list. pods is apart, since no pod asks for it.
func amountsOf(l corev1.ResourceList) (a amounts, pods int64) {
	for name, q := range l {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
			pods = q.Value()
		default:
			if scalar(name) {
				if a.other == nil {
					a.other = map[corev1.ResourceName]int64{}
				}
				a.other[name] = q.Value()
			}
		}
	}
	return a, pods
}

// scalar tells whether the scheduler counts a resource besides CPU, memory and storage: extended resources, huge pages and volumes.
func scalar(name corev1.ResourceName) bool {
	n := string(name)
	return strings.HasPrefix(n, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(n, corev1.ResourceAttachableVolumesPrefix) ||
		strings.Contains(n, "/") && (strings.Contains(n, corev1.ResourceDefaultNamespacePrefix) || !strings.HasPrefix(n, corev1.DefaultResourceRequestsPrefix))
}

// add adds b's amounts, times sign.
func (a *amounts) add(b *amounts, sign int64) {
	a.cpu += sign * b.cpu
	a.memory += sign * b.memory
	a.storage += sign * b.storage
	for name, v := range b.other {
		if a.other == nil {
			a.other = map[corev1.ResourceName]int64{}
		}
		a.other[name] += sign * v
	}
}

// of is the amount of one resource.
func (a *amounts) of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return a.cpu
	case corev1.ResourceMemory:
		return a.memory
	case corev1.ResourceEphemeralStorage:
		return a.storage
	}
	return a.other[name]
}

// requestsOf is what a pod asks for, and what scoring counts. bound says that it runs: then a resize that is under way counts with the
// larger of what it has and what it shall have.
func requestsOf(pod *corev1.Pod, bound bool) (amounts, score) {
	opts := resource.PodResourcesOptions{UseStatusResources: bound, InPlacePodLevelResourcesVerticalScalingEnabled: bound}
	list := resource.PodRequests(pod, opts)
	out, _ := amountsOf(list)
	missing := corev1.ResourceList{}
	atPod := bound && resource.IsPodLevelRequestsSet(pod)
	if _, there := list[corev1.ResourceCPU]; !there || !atPod {
		missing[corev1.ResourceCPU] = *kresource.NewMilliQuantity(defaultCPU, kresource.DecimalSI)
	}
	if _, there := list[corev1.ResourceMemory]; !there || !atPod {
		missing[corev1.ResourceMemory] = *kresource.NewQuantity(defaultMemory, kresource.DecimalSI)
	}
	opts.NonMissingContainerRequests = missing
	opts.SkipPodLevelResources = !bound // kube-scheduler scores a pod by its containers, and counts it by itself once it runs
	scored, _ := amountsOf(resource.PodRequests(pod, opts))
	return out, score{scored.cpu, scored.memory}
}

// port is a port of a node's own address.
type port struct {
	ip, protocol string
	number       int32
}

const everyAddress = "0.0.0.0"

// hostPorts are the ports of the node that a pod takes: those of its containers and sidecars.
func hostPorts(pod *corev1.Pod) []port {
	var out []port
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = appendPorts(out, c.Ports)
		}
	}
	for i := range pod.Spec.Containers {
		out = appendPorts(out, pod.Spec.Containers[i].Ports)
	}
	return out
}

func appendPorts(out []port, ports []corev1.ContainerPort) []port {
	for _, p := range ports {
		if p.HostPort <= 0 {
			continue
		}
		q := port{p.HostIP, string(p.Protocol), p.HostPort}
		if q.ip == "" {
			q.ip = everyAddress
		}
		if q.protocol == "" {
			q.protocol = string(corev1.ProtocolTCP)
		}
		out = append(out, q)
	}
	return out
}

// conflicts tells whether a port of the host is taken: 0.0.0.0 stands for every address.
func (n *nodeState) conflicts(p port) bool {
	if len(n.ports) == 0 {
		return false
	}
	if p.ip != everyAddress {
		return n.ports[p] > 0 || n.ports[port{everyAddress, p.protocol, p.number}] > 0
	}
	for q := range n.ports {
		if q.number == p.number && q.protocol == p.protocol {
			return true
		}
	}
	return false
}

// shortage is a resource of which a node has too little.
type shortage struct {
	resource            string
	asked, used, offers int64
}

// short appends what the node lacks for the demand, in kube-scheduler's order.
func (n *nodeState) short(d *demand, out []shortage) []shortage {
	a, u, r := &n.allocatable, &n.used, &d.requests
	if int64(len(n.pods))+1 > n.maxPods {
		out = append(out, shortage{"pods", 1, int64(len(n.pods)), n.maxPods})
	}
	lacks := func(name string, asked, used, offers int64) {
		if asked > 0 && asked > offers-used {
			out = append(out, shortage{name, asked, used, offers})
		}
	}
	lacks("cpu", r.cpu, u.cpu, a.cpu)
	lacks("memory", r.memory, u.memory, a.memory)
	lacks("ephemeral-storage", r.storage, u.storage, a.storage)
	if len(r.other) > 0 {
		names := make([]string, 0, len(r.other))
		for name := range r.other {
			names = append(names, string(name))
		}
		sort.Strings(names)
		for _, name := range names {
			k := corev1.ResourceName(name)
			if asked := r.other[k]; asked != 0 && asked > a.other[k]-u.other[k] {
				out = append(out, shortage{name, asked, u.other[k], a.other[k]})
			}
		}
	}
	return out
}

// lacks is what a node has too little of: one bit each, and one that nobody's going helps.
type lacks uint8

// shortRefusal is what is said of a node that lacks something. Nodes that lack the same share it.
func (s *Snapshot) shortRefusal(n *nodeState, d *demand) *refusal {
	if len(d.requests.other) > 0 {
		return n.shortRefusal(d)
	}
	key := lacks(0)
	note := func(bit lacks, asked, used, offers int64) {
		if asked > 0 && asked > offers-used {
			if key |= 1 << bit; asked > offers {
				key |= 1 << 7
			}
		}
	}
	if int64(len(n.pods))+1 > n.maxPods {
		key |= 1 << 6
	}
	note(0, d.requests.cpu, n.used.cpu, n.allocatable.cpu)
	note(1, d.requests.memory, n.used.memory, n.allocatable.memory)
	note(2, d.requests.storage, n.used.storage, n.allocatable.storage)
	r := s.short[key]
	if r == nil {
		r = n.shortRefusal(d)
		s.short[key] = r
	}
	return r
}

// shortRefusal puts shortages into kube-scheduler's words. Nobody's going helps where the pod asks for more than the node offers.
func (n *nodeState) shortRefusal(d *demand) *refusal {
	out := &refusal{plugin: nodeResourcesFit}
	for _, s := range n.short(d, nil) {
		if s.resource == "pods" {
			out.reasons = append(out.reasons, "Too many pods")
			continue
		}
		out.reasons = append(out.reasons, "Insufficient "+s.resource)
		out.unresolvable = out.unresolvable || s.asked > s.offers
	}
	return out
}

// fits tells whether the node has room and the ports are free.
func (n *nodeState) fits(d *demand) bool {
	a, u, r := &n.allocatable, &n.used, &d.requests
	if int64(len(n.pods))+1 > n.maxPods || r.cpu > 0 && r.cpu > a.cpu-u.cpu || r.memory > 0 && r.memory > a.memory-u.memory ||
		r.storage > 0 && r.storage > a.storage-u.storage {
		return false
	}
	for k, v := range r.other {
		if v != 0 && v > a.other[k]-u.other[k] {
			return false
		}
	}
	return len(d.ports) == 0 || !slices.ContainsFunc(d.ports, n.conflicts)
}
