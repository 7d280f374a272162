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
	pods  map[object.Key]use
	nodes map[string]use
}

// use is object.Usage in little room: there is one a pod of the cluster.
type use struct {
	at         time.Time
	window     time.Duration
	containers []used
}

// used is what one container uses.
type used struct {
	name             string
	nanocores, bytes int64
}

// usage is the same as others know it.
func (u use) usage() object.Usage {
	out := object.Usage{At: u.at, Window: u.window, Containers: make(map[string]corev1.ResourceList, len(u.containers))}
	for _, c := range u.containers {
		out.Containers[c.name] = amounts(c.nanocores, c.bytes)
	}
	return out
}

// newTable makes one that will have about as many pods and nodes as another, which may be nil.
func newTable(like *Table) *Table {
	pods, nodes := 0, 0
	if like != nil {
		pods, nodes = len(like.pods), len(like.nodes)
	}
	return &Table{pods: make(map[object.Key]use, pods), nodes: make(map[string]use, nodes)}
}

// Usage is what the containers of a pod use; false if it was not measured. It implements what controllers ask.
func (t *Table) Usage(pod object.Key) (object.Usage, bool) {
	if t == nil {
		return object.Usage{}, false
	}
	u, ok := t.pods[pod]
	if !ok {
		return object.Usage{}, false
	}
	return u.usage(), true
}

// Node is what a machine uses, as that of one container without a name; false if it was not measured.
func (t *Table) Node(name string) (object.Usage, bool) {
	if t == nil {
		return object.Usage{}, false
	}
	u, ok := t.nodes[name]
	if !ok {
		return object.Usage{}, false
	}
	return u.usage(), true
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
			m.Pods[k.Namespace+"/"+k.Name] = u.reading()
		}
		for name, u := range t.nodes {
			m.Nodes[name] = u.reading()
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
	*t = Table{pods: make(map[object.Key]use, len(m.Pods)), nodes: make(map[string]use, len(m.Nodes))}
	for name, r := range m.Pods {
		key, err := object.ParsePath("/registry/pods/" + name)
		if err != nil {
			return fmt.Errorf("read what pods use: %w", err)
		}
		t.pods[key] = r.use()
	}
	for name, r := range m.Nodes {
		t.nodes[name] = r.use()
	}
	return nil
}

func (u use) reading() reading {
	r := reading{At: u.at, Window: u.window, Used: make(map[string][2]int64, len(u.containers))}
	for _, c := range u.containers {
		r.Used[c.name] = [2]int64{c.nanocores, c.bytes}
	}
	return r
}

func (r reading) use() use {
	u := use{at: r.At, window: r.Window, containers: make([]used, 0, len(r.Used))}
	for name, c := range r.Used {
		u.containers = append(u.containers, used{name, c[0], c[1]})
	}
	return u
}

// amounts are nanocores and bytes as Kubernetes writes them.
func amounts(nanocores, bytes int64) corev1.ResourceList {
	cpu, memory := kresource.NewScaledQuantity(nanocores, kresource.Nano), kresource.NewQuantity(bytes, kresource.BinarySI)
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *memory}
}
