package usage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"reconcile/object"
)

// sample is what one container, or a machine, has used at a time.
type sample struct {
	at      time.Time
	started time.Time     // zero if it is not known
	cpu     time.Duration // since the start
	memory  int64
}

// whole tells whether both amounts are such as there can be.
func (s sample) whole() bool { return !s.at.IsZero() && s.cpu >= 0 && s.memory >= 0 }

// container is one of a node's.
type container struct {
	namespace, pod, name string
	sample
}

// order is by namespace, pod and name.
func (c *container) order(o *container) int {
	return cmp.Or(cmp.Compare(c.namespace, o.namespace), cmp.Compare(c.pod, o.pod), cmp.Compare(c.name, o.name))
}

// scraped is what an agent told: containers are in their order, and none is there twice.
type scraped struct {
	known      bool // false before anything was told
	machine    sample
	containers []container
}

// parse reads an agent's answer.
func parse(b []byte) (*scraped, error) {
	var in object.NodeCounters
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("read what an agent measured: %w", err)
	}
	n := 0
	for i := range in.Pods {
		n += len(in.Pods[i].Containers)
	}
	out := &scraped{known: true, containers: make([]container, 0, n)}
	if in.Machine != nil {
		out.machine = counted(in.Machine)
	}
	for _, p := range in.Pods {
		for i := range p.Containers {
			out.containers = append(out.containers, container{p.Namespace, p.Name, p.Containers[i].Name, counted(&p.Containers[i].Counters)})
		}
	}
	order := func(x, y container) int { return x.order(&y) }
	if !slices.IsSortedFunc(out.containers, order) {
		slices.SortStableFunc(out.containers, order)
	}
	// Of two pods of one name, of which one is just ending, the last counts.
	kept := out.containers[:0]
	for i := range out.containers {
		if i+1 == len(out.containers) || out.containers[i].order(&out.containers[i+1]) != 0 {
			kept = append(kept, out.containers[i])
		}
	}
	out.containers = kept
	return out, nil
}

func counted(c *object.Counters) sample {
	s := sample{cpu: time.Duration(c.CPU), memory: c.Memory}
	if c.At > 0 {
		s.at = time.UnixMilli(c.At)
	}
	if c.Started > 0 {
		s.started = time.UnixMilli(c.Started)
	}
	return s
}
