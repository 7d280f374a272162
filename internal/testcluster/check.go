package testcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reconcile/cluster"
	"reconcile/object"
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
	for _, s := range c.servers {
		if err := s.Store().WaitRev(ctx, rev); err != nil {
			c.t.Fatalf("server %s does not catch up: %v", s.ID, err)
		}
	}
	// Entries that take no revision (a compaction, a lease) may still be on their way to some.
	for {
		err := c.differ(leader)
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			c.t.Errorf("after %s: %v", patience, err)
			return
		}
	}
}

// differ says which server's state is not the leader's.
func (c *Cluster) differ(leader *Server) error {
	want := leader.Store().View()
	for _, s := range c.servers {
		if err := raftstore.Equal(want, s.Store().View()); err != nil {
			return fmt.Errorf("%s and %s differ: %w", leader.ID, s.ID, err)
		}
	}
	return nil
}

// Observer follows a resource through all troubles, as a client with several servers does, and keeps what it saw.
type Observer struct {
	c        *Cluster
	resource string
	done     chan struct{} // closed when the observer has ended
	stop     context.CancelFunc
	// Events are all events seen, valid after Stop.
	Events []cluster.Event
	// Relists are the places where no watch could go on, for the history had been compacted.
	Relists []Relist
	// Fault is the first thing that a watch must not do.
	Fault error
}

// Relist is a list in the place of a watch.
type Relist struct {
	// Before is the number of events seen before it, After the revision that the watch had come to, Rev that of the list.
	Before     int
	After, Rev uint64
	// Objects are all there were.
	Objects []object.Object
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
	if errors.Is(err, raftstore.ErrCompacted) {
		return o.relist(s, rev)
	}
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
	if errors.Is(err, raftstore.ErrCompacted) {
		return o.relist(s, rev)
	}
	return rev
}

// relist begins anew with a list, if the server is not behind what was seen already.
func (o *Observer) relist(s *Server, after uint64) uint64 {
	v := s.View()
	if v.Rev() < after {
		return after
	}
	o.Relists = append(o.Relists, Relist{Before: len(o.Events), After: after, Rev: v.Rev(), Objects: slices.Collect(v.List(o.resource, ""))})
	o.c.History.note("observer of "+o.resource+" by "+s.ID, fmt.Sprintf("lists anew: the history does not reach back to %d", after), v.Rev())
	return v.Rev()
}

// Stop ends the observer and waits for it.
func (o *Observer) Stop() {
	o.stop()
	<-o.done
}
