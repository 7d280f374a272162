package scheduler

import (
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
)

// amounts are resources: millicores, bytes, and whole numbers of the rest.
type amounts struct {
	cpu, memory, storage, pods int64
	other                      map[corev1.ResourceName]int64
}

type score struct{ cpu, memory int64 }

// What scoring assumes of a container that asks for nothing, as kube-scheduler does (pkg/scheduler/util/pod_resources.go).
const (
	defaultCPU    = 100
	defaultMemory = 200 << 20
)

func (a *amounts) addList(l corev1.ResourceList) {
	for name, q := range l {
		switch name {
		case corev1.ResourceCPU:
			a.cpu += q.MilliValue()
		case corev1.ResourceMemory:
			a.memory += q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage += q.Value()
		case corev1.ResourcePods:
			a.pods += q.Value()
		default:
			if a.other == nil {
				a.other = map[corev1.ResourceName]int64{}
			}
			a.other[name] += q.Value()
		}
	}
}

func (a *amounts) add(b *amounts) {
	a.cpu += b.cpu
	a.memory += b.memory
	a.storage += b.storage
	for name, v := range b.other {
		if a.other == nil {
			a.other = map[corev1.ResourceName]int64{}
		}
		a.other[name] += v
	}
}

// demand is what a pod asks of any node. It is shared by pods made from one template.
type demand struct {
	owner    types.UID
	requests amounts
	score    score
	ports    []port
	spec     *corev1.PodSpec
}

// demandOf reads a pod's demand. cache, if not nil, holds one demand an owner, which serves all its pods whose specification
// asks for the same.
func demandOf(pod *corev1.Pod, cache map[types.UID]*demand) *demand {
	owner := types.UID("")
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		owner = ref.UID
	}
	if d := cache[owner]; d != nil && sameDemand(d.spec, &pod.Spec) {
		return d
	}
	d := &demand{owner: owner, spec: &pod.Spec, ports: hostPorts(pod)}
	d.requests.addList(resource.PodRequests(pod, resource.PodResourcesOptions{}))
	defaults := corev1.ResourceList{
		corev1.ResourceCPU:    *quantity(defaultCPU, true),
		corev1.ResourceMemory: *quantity(defaultMemory, false),
	}
	var scored amounts
	scored.addList(resource.PodRequests(pod, resource.PodResourcesOptions{NonMissingContainerRequests: defaults}))
	d.score = score{scored.cpu, scored.memory}
	if cache != nil && owner != "" {
		cache[owner] = d
	}
	return d
}

func hostPorts(pod *corev1.Pod) []port {
	var out []port
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if p.HostPort == 0 {
					continue
				}
				protocol := string(p.Protocol)
				if protocol == "" {
					protocol = string(corev1.ProtocolTCP)
				}
				ip := p.HostIP
				if ip == "" {
					ip = "0.0.0.0"
				}
				out = append(out, port{ip, protocol, p.HostPort})
			}
		}
	}
	return out
}

// conflicts tells whether a port of the host is taken: 0.0.0.0 stands for every address.
func (n *nodeState) conflicts(p port) bool {
	if len(n.ports) == 0 {
		return false
	}
	if p.ip != "0.0.0.0" {
		return n.ports[p] || n.ports[port{"0.0.0.0", p.protocol, p.number}]
	}
	for q := range n.ports {
		if q.number == p.number && q.protocol == p.protocol {
			return true
		}
	}
	return false
}

// short lists the resources that the node lacks for the demand, in kube-scheduler's order and words.
func (n *nodeState) short(d *demand) []string {
	var out []string
	a, u, r := &n.allocatable, &n.used, &d.requests
	if u.pods+1 > a.pods {
		out = append(out, "Too many pods")
	}
	if r.cpu > 0 && u.cpu+r.cpu > a.cpu {
		out = append(out, "Insufficient cpu")
	}
	if r.memory > 0 && u.memory+r.memory > a.memory {
		out = append(out, "Insufficient memory")
	}
	if r.storage > 0 && u.storage+r.storage > a.storage {
		out = append(out, "Insufficient ephemeral-storage")
	}
	if len(r.other) > 0 {
		names := make([]string, 0, len(r.other))
		for name := range r.other {
			names = append(names, string(name))
		}
		sort.Strings(names)
		for _, name := range names {
			k := corev1.ResourceName(name)
			if r.other[k] > 0 && u.other[k]+r.other[k] > a.other[k] {
				out = append(out, "Insufficient "+name)
			}
		}
	}
	return out
}

// fits is short without the words.
func (n *nodeState) fits(d *demand) bool {
	a, u, r := &n.allocatable, &n.used, &d.requests
	if u.pods+1 > a.pods || r.cpu > 0 && u.cpu+r.cpu > a.cpu || r.memory > 0 && u.memory+r.memory > a.memory ||
		r.storage > 0 && u.storage+r.storage > a.storage {
		return false
	}
	for k, v := range r.other {
		if v > 0 && u.other[k]+v > a.other[k] {
			return false
		}
	}
	return !slices.ContainsFunc(d.ports, n.conflicts)
}
