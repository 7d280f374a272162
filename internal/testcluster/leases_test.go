package testcluster_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/internal/testcluster"
	"reconcile/raftstore"
)

// leased is one lease of the test, kept alive by one client.
type leased struct {
	id, ttl int64
	// since is when the last renewal that was answered was asked for: from then on it has its whole time.
	since time.Time
	gone  bool
	// seen is when it was seen to be gone.
	seen time.Time
}

// TestNoRenewedLeaseEnds: leaders are cut off, killed and replaced while clients renew leases by any server, some at the last moment, some long ones after a
// checkpoint. No lease goes before the time that its last answered renewal gave it; all that nobody renews go in the end.
//
// LEASE_SEED repeats a run's choices.
func TestNoRenewedLeaseEnds(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("LEASE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("LEASE_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		h := &leaseholders{t: t, c: c}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 12 {
			r, ttl := rand.New(rand.NewPCG(seed, uint64(i))), []int64{6, 30, 700}[i%3]
			wg.Go(func() {
				for ctx.Err() == nil {
					if l := h.grant(ctx, ttl); l != nil {
						h.keep(ctx, l, r)
					}
				}
			})
		}
		wg.Go(func() { h.look(ctx) })
		r := rand.New(rand.NewPCG(seed, 1<<32))
		changes := 0
		for range 30 {
			pauseFor(ctx, time.Duration(5+r.IntN(50))*time.Second)
			i := c.Leader().Index
			switch r.IntN(3) {
			case 0:
				c.Kill(i)
			case 1:
				c.Isolate(i)
			default:
				_ = c.Server(i).Store().TransferLeadership(ctx) // it may find nobody to hand over to
			}
			pauseFor(ctx, time.Duration(r.IntN(20))*time.Second)
			c.Heal()
			c.Restart(i)
			changes++
		}
		stop()
		wg.Wait()
		time.Sleep(750 * time.Second)
		c.Settled()
		for l := range c.Leader().Store().View().Leases() {
			t.Errorf("lease %d of %d s is still there, long after the last renewal", l.ID, l.TTL)
		}
		t.Logf("%d leases, %d renewals, %d too late, %d changes of leaders", len(h.all), h.renewed, h.lost, changes)
		if h.renewed < 300 || h.lost < 5 {
			t.Errorf("%d renewals, and %d too late, prove little", h.renewed, h.lost)
		}
	})
}

// leaseholders are the clients and what they know.
type leaseholders struct {
	t *testing.T
	c *testcluster.Cluster

	mu            sync.Mutex
	all           []*leased
	renewed, lost int
}

// grant makes a new lease, or nil if there is no leader just now.
func (h *leaseholders) grant(ctx context.Context, ttl int64) *leased {
	h.mu.Lock()
	l := &leased{id: int64(len(h.all) + 1), ttl: ttl, since: time.Now(), gone: true} // until it is known to be there
	h.all = append(h.all, l)
	h.mu.Unlock()
	turn, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for i := range 3 {
		if s := h.c.Server(i); s.Running() && s.Store().Leader().Self {
			if _, err := s.Store().Propose(turn, raftstore.Entry{Ops: []raftstore.Op{raftstore.LeaseGrant(l.id, ttl)}}); err != nil {
				return nil
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			l.gone = false
			return l
		}
	}
	pauseFor(ctx, 100*time.Millisecond)
	return nil
}

// keep renews a lease by any server until it is gone: mostly in good time, now and then at the last moment or too late.
func (h *leaseholders) keep(ctx context.Context, l *leased, r *rand.Rand) {
	for ctx.Err() == nil {
		late := 0.3 + 0.5*r.Float64()
		if r.IntN(4) == 0 {
			late = 0.97 + 0.05*r.Float64()
		}
		pauseFor(ctx, time.Duration(late*float64(l.ttl)*float64(time.Second)))
		s := h.c.Server(r.IntN(3))
		if !s.Running() {
			continue
		}
		asked := time.Now()
		turn, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := s.Store().Lessor().KeepAlive(turn, l.id)
		cancel()
		h.mu.Lock()
		if err == nil {
			if l.gone && asked.After(l.seen) {
				h.t.Errorf("lease %d was gone at %s, and was renewed at %s", l.id, l.seen.Format(time.TimeOnly), asked.Format(time.TimeOnly))
			}
			l.since = asked
			h.renewed++
		}
		gone := errors.Is(err, raftstore.ErrNoLease)
		if gone {
			h.lost++
		}
		h.mu.Unlock()
		if gone {
			return
		}
	}
}

// look watches, on the leader's committed state, which leases are still there.
func (h *leaseholders) look(ctx context.Context) {
	for ctx.Err() == nil {
		for i := range 3 {
			s := h.c.Server(i)
			if !s.Running() || !s.Store().Leader().Self {
				continue
			}
			turn, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err := s.Store().ReadIndex(turn)
			cancel()
			if err == nil {
				h.compare(s.Store().View())
			}
		}
		pauseFor(ctx, 10*time.Millisecond)
	}
}

func (h *leaseholders) compare(v *raftstore.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, l := range h.all {
		if _, ok := v.Lease(l.id); ok || l.gone {
			continue
		}
		l.gone, l.seen = true, now
		if ends := l.since.Add(time.Duration(l.ttl) * time.Second); now.Before(ends) {
			h.t.Errorf("lease %d of %d s is gone at %s, %s before its time", l.id, l.ttl, now.Format(time.TimeOnly), ends.Sub(now))
		}
	}
}

// pauseFor waits, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
