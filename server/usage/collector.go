package usage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// youngest is how long a container must have run before its use since its start says something; beyond two periods it says too little of now.
const youngest = 10 * time.Second

// Config of a Collector. All fields but Log must be set.
type Config struct {
	// Nodes are those there are; nil while this server does not lead, and then nobody is asked.
	Nodes func() []*corev1.Node
	// Ask returns an agent's object.NodeCounters as JSON.
	Ask func(ctx context.Context, node *corev1.Node) ([]byte, error)
	Log *slog.Logger
}

// Validate lists all faults.
func (c Config) Validate() error {
	if c.Nodes == nil || c.Ask == nil || c.Log == nil {
		return errors.New("usage config: Nodes, Ask and Log must be set")
	}
	return nil
}

// Collector asks the agents. It is safe for use by several goroutines.
type Collector struct {
	cfg   Config
	table atomic.Pointer[Table]
	// before are the last samples of each node, by which the next ones are measured. Only Run's goroutine replaces it.
	before map[string]*scraped
}

// New makes a collector; Run must be called for it to do anything.
func New(cfg Config) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Collector{cfg: cfg, before: map[string]*scraped{}}, nil
}

// Table is what was measured last, nil if nothing was: this server does not lead, or not for long enough.
func (c *Collector) Table() *Table { return c.table.Load() }

// Run asks until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	return repeat(ctx, func(ctx context.Context) time.Duration {
		c.round(ctx)
		if c.table.Load() == nil {
			return first // it may lead soon
		}
		return period
	})
}

// round asks every node once and publishes what was measured.
func (c *Collector) round(ctx context.Context) {
	nodes := c.cfg.Nodes()
	if len(nodes) == 0 {
		c.before = map[string]*scraped{}
		c.table.Store(nil)
		return
	}
	var mu sync.Mutex
	next, table := make(map[string]*scraped, len(nodes)), newTable(c.table.Load())
	g := errgroup.Group{}
	g.SetLimit(atOnce)
	for _, n := range nodes {
		g.Go(func() error {
			now, err := c.ask(ctx, n)
			if err != nil {
				c.cfg.Log.Debug("cannot learn what a node uses", "node", n.Name, "err", err)
				return nil //nolint:nilerr // its pods count as not measured
			}
			mu.Lock()
			defer mu.Unlock()
			next[n.Name] = now
			before := c.before[n.Name]
			if before == nil {
				before = &scraped{}
			}
			table.add(n.Name, before, now)
			return nil
		})
	}
	_ = g.Wait()
	c.before = next
	c.table.Store(table)
}

func (c *Collector) ask(ctx context.Context, n *corev1.Node) (*scraped, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, err := c.cfg.Ask(ctx, n)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// add measures a node and its pods. A pod of which a container cannot be measured yet is left out, as in metrics-server.
func (t *Table) add(node string, before, now *scraped) {
	// A machine has a sample of before only if it was asked before.
	if cpu, window, ok := rate(before.machine, now.machine, before.known); ok {
		t.nodes[node] = use{at: now.machine.at, window: window, containers: []used{{"", cpu, now.machine.memory}}}
	}
	was, room := before.containers, make([]used, 0, len(now.containers))
	for i := 0; i < len(now.containers); {
		first := &now.containers[i]
		u, whole := use{containers: room[len(room):]}, true
		for ; i < len(now.containers) && now.containers[i].pod == first.pod && now.containers[i].namespace == first.namespace; i++ {
			c := &now.containers[i]
			for len(was) > 0 && was[0].order(c) < 0 {
				was = was[1:]
			}
			var old sample
			seen := len(was) > 0 && was[0].order(c) == 0
			if seen {
				old = was[0].sample
			}
			cpu, window, ok := rate(old, c.sample, seen)
			if whole = whole && ok; !whole {
				continue
			}
			if len(u.containers) == 0 || c.at.Before(u.at) {
				u.at = c.at
			}
			u.window = max(u.window, window)
			room = append(room, used{c.name, cpu, c.memory})
			u.containers = room[len(room)-len(u.containers)-1:]
		}
		if whole {
			t.pods[object.Key{Resource: "pods", Namespace: first.namespace, Name: first.pod}] = u
		}
	}
}

// rate is how much CPU was used from one sample to the next, in nanocores, and over which time. One that has just started is measured from its start;
// one that was started again in between counts for nothing yet.
func rate(was, now sample, seen bool) (nanocores int64, window time.Duration, ok bool) {
	if !now.whole() {
		return 0, 0, false
	}
	anew := !now.started.IsZero() && (!seen || now.started.After(was.at))
	switch {
	case anew:
		was = sample{at: now.started}
		if window = now.at.Sub(was.at); window < youngest || window >= 2*period {
			return 0, 0, false
		}
	case !seen || !was.whole():
		return 0, 0, false
	}
	if window = now.at.Sub(was.at); window <= 0 || now.cpu < was.cpu {
		return 0, 0, false
	}
	return int64(float64(now.cpu-was.cpu) / window.Seconds()), window, true
}
