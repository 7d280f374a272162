package usage

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"

	"reconcile/object"
)

// Table is what was measured last. Nobody may change it.
type Table struct {
	pods  map[object.Key]object.Usage
	nodes map[string]object.Usage
}

// Usage is what the containers of a pod use; false if it was not measured. It implements what controllers ask.
func (t *Table) Usage(pod object.Key) (object.Usage, bool) {
	if t == nil {
		return object.Usage{}, false
	}
	u, ok := t.pods[pod]
	return u, ok
}

// Node is what a machine uses, as that of one container without a name; false if it was not measured.
func (t *Table) Node(name string) (object.Usage, bool) {
	if t == nil {
		return object.Usage{}, false
	}
	u, ok := t.nodes[name]
	return u, ok
}

// reading is a measurement as servers tell it to each other: [CPU in nanocores, memory in bytes] by container.
type reading struct {
	At     time.Time           `json:"at"`
	Window time.Duration       `json:"window"`
	Used   map[string][2]int64 `json:"used"`
}

// message is a whole table between servers. Pods are by NAMESPACE/NAME.
type message struct {
	Pods  map[string]reading `json:"pods"`
	Nodes map[string]reading `json:"nodes"`
}

// MarshalJSON implements json.Marshaler.
func (t *Table) MarshalJSON() ([]byte, error) {
	m := message{Pods: map[string]reading{}, Nodes: map[string]reading{}}
	if t != nil {
		for k, u := range t.pods {
			m.Pods[k.Namespace+"/"+k.Name] = read(u)
		}
		for name, u := range t.nodes {
			m.Nodes[name] = read(u)
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Table) UnmarshalJSON(b []byte) error {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("read what pods use: %w", err)
	}
	*t = Table{pods: map[object.Key]object.Usage{}, nodes: map[string]object.Usage{}}
	for name, r := range m.Pods {
		key, err := object.ParsePath("/registry/pods/" + name)
		if err != nil {
			return fmt.Errorf("read what pods use: %w", err)
		}
		t.pods[key] = r.usage()
	}
	for name, r := range m.Nodes {
		t.nodes[name] = r.usage()
	}
	return nil
}

func read(u object.Usage) reading {
	r := reading{At: u.At, Window: u.Window, Used: map[string][2]int64{}}
	for c, used := range u.Containers {
		r.Used[c] = [2]int64{used.Cpu().ScaledValue(kresource.Nano), used.Memory().Value()}
	}
	return r
}

func (r reading) usage() object.Usage {
	u := object.Usage{At: r.At, Window: r.Window, Containers: map[string]corev1.ResourceList{}}
	for c, used := range r.Used {
		u.Containers[c] = amounts(used[0], used[1])
	}
	return u
}

// amounts are nanocores and bytes as Kubernetes writes them.
func amounts(nanocores, bytes int64) corev1.ResourceList {
	cpu, memory := kresource.NewScaledQuantity(nanocores, kresource.Nano), kresource.NewQuantity(bytes, kresource.BinarySI)
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *memory}
}
