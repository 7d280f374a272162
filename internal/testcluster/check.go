package testcluster

import (
	"context"
	"fmt"

	"reconcile/cluster"
	"reconcile/raftstore"
)

// Settled joins and restarts everything, waits until all servers have applied the same, and compares their states.
func (c *Cluster) Settled() {
	c.t.Helper()
	for i := range c.servers {
		c.Restart(i)
	}
	c.Heal()
	leader := c.Leader()
	rev, err := leader.Store().ReadIndex(c.ctx)
	if err != nil {
		c.t.Fatalf("read index after healing: %v", err)
	}
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	want := leader.Store().View()
	for _, s := range c.servers {
		if err := s.Store().WaitRev(ctx, rev); err != nil {
			c.t.Fatalf("server %s does not catch up: %v", s.ID, err)
		}
		v := s.Store().View()
		// Entries that take no revision (renewals, compactions) may be on their way yet.
		for v.Rev() == want.Rev() && v.Time().Before(want.Time()) && ctx.Err() == nil {
			pause(ctx)
			v = s.Store().View()
		}
		if v.Rev() == want.Rev() && !v.Time().After(want.Time()) {
			if err := raftstore.Equal(want, v); err != nil {
				c.t.Errorf("%s and %s differ: %v", leader.ID, s.ID, err)
			}
		}
	}
}

// Observer follows a resource through all troubles, as a client with several servers does, and keeps what it saw.
type Observer struct {
	c        *Cluster
	resource string
	done     chan struct{} // closed when the observer has ended
	stop     context.CancelFunc
	// Events are all events seen, valid after Stop.
	Events []cluster.Event
	// Fault is the first thing that a watch must not do.
	Fault error
}

// Observe begins after revision rev.
func (c *Cluster) Observe(resource string, rev uint64) *Observer {
	o := &Observer{c: c, resource: resource, done: make(chan struct{})}
	var ctx context.Context
	ctx, o.stop = context.WithCancel(c.ctx)
	c.wg.Go(func() {
		defer close(o.done)
		for i := 0; ctx.Err() == nil; i++ {
			s := c.servers[i%len(c.servers)]
			if s.Running() {
				rev = o.follow(ctx, s, rev)
			}
			pause(ctx)
		}
	})
	return o
}

// follow goes on after rev on one server until that one is in trouble.
func (o *Observer) follow(ctx context.Context, s *Server, rev uint64) uint64 {
	w, err := cluster.WatchObjects(s.Store(), o.resource, "", rev)
	for err == nil {
		var events []cluster.Event
		var upTo uint64
		events, upTo, err = w.Next(ctx)
		for _, e := range events {
			if e.Rev <= rev && o.Fault == nil {
				o.Fault = fmt.Errorf("server %s gave revision %d after %d", s.ID, e.Rev, rev)
			}
			rev = e.Rev
			o.Events = append(o.Events, e)
			o.c.History.note("observer of "+o.resource+" by "+s.ID, fmt.Sprintf("%s %s/%s", e.Type, e.Object.GetNamespace(), e.Object.GetName()), e.Rev)
		}
		rev = max(rev, upTo)
	}
	return rev
}

// Stop ends the observer and waits for it.
func (o *Observer) Stop() {
	o.stop()
	<-o.done
}
