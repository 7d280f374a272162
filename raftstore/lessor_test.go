package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// runLessor lets a member end leases until the test is over.
func runLessor(t testing.TB, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Lessor().Run(ctx, s.RevokeHere); err != nil {
			t.Errorf("run the lessor: %v", err)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// grant makes a lease with a key on it.
func grant(t testing.TB, s *Store, id, ttl int64, keys ...string) {
	t.Helper()
	ops := []Op{LeaseGrant(id, ttl)}
	for _, k := range keys {
		ops = append(ops, Op{Kind: Put, Key: k, Lease: id})
	}
	propose(t, s, ops...)
}

// lives waits until the lease is there or gone.
func lives(t testing.TB, s *Store, id int64, want bool) {
	t.Helper()
	_, ok := s.View().Lease(id)
	if ok != want {
		t.Fatalf("lease %d is there: %v, want %v, at %s", id, ok, want, time.Now().Format(time.TimeOnly))
	}
}

func TestLeaseRunsOutAndTakesItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		defer runLessor(t, s)()
		synctest.Wait()
		grant(t, s, 7, 10, "/b", "/a")
		propose(t, s, put("/c", "stays"))
		w, err := s.Watch("/", s.View().Rev())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(8 * time.Second)
			if ttl, err := s.Lessor().KeepAlive(t.Context(), 7); err != nil || ttl != 10 {
				t.Fatalf("keep alive: %d, %v", ttl, err)
			}
		}
		time.Sleep(4 * time.Second)
		if left, err := s.Lessor().TimeToLive(t.Context(), 7); err != nil || left != 6 {
			t.Errorf("%d s left, %v; want 6", left, err)
		}
		time.Sleep(5900 * time.Millisecond)
		lives(t, s, 7, true)
		time.Sleep(200 * time.Millisecond)
		lives(t, s, 7, false)
		events, _, err := w.Poll()
		if err != nil || len(events) != 2 || events[0].Key != "/a" || events[1].Key != "/b" || events[0].Rev != events[1].Rev {
			t.Errorf("events %v, %v; want both keys in order at one revision", events, err)
		}
		if _, ok := s.View().Get("/c"); !ok {
			t.Error("a key without a lease went too")
		}
		if _, err := s.Lessor().KeepAlive(t.Context(), 7); !errors.Is(err, ErrNoLease) {
			t.Errorf("keep alive of a lease that ran out: %v", err)
		}
	})
}

// A lease that is revoked while a new leader counts from a view of before is not renewed, and its clock takes nothing from a later lease of
// its ID.
func TestRevokedLeaseIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		defer runLessor(t, s)()
		synctest.Wait()
		l := s.Lessor()
		// ghost does what begin does: it adds from a view that the revocation has overtaken.
		ghost := func(id int64) {
			grant(t, s, id, 10)
			old, _ := s.View().Lease(id)
			propose(t, s, LeaseRevoke(id, 0, 0))
			l.mu.Lock()
			defer l.mu.Unlock()
			l.addLocked(old, 10*time.Second)
		}
		for _, ask := range []func(context.Context, int64) (int64, error){l.KeepAlive, l.TimeToLive} {
			ghost(7)
			if n, err := ask(t.Context(), 7); !errors.Is(err, ErrNoLease) {
				t.Errorf("a revoked lease: %d, %v", n, err)
			}
			l.mu.Lock()
			if len(l.clocks) != 0 || len(l.order) != 0 {
				t.Errorf("%d clocks are left, %d in order", len(l.clocks), len(l.order))
			}
			l.mu.Unlock()
		}
		ghost(8)
		grant(t, s, 8, 30)
		time.Sleep(15 * time.Second)
		if ttl, err := l.KeepAlive(t.Context(), 8); err != nil || ttl != 30 {
			t.Errorf("the later lease: %d, %v", ttl, err)
		}
		time.Sleep(29 * time.Second)
		lives(t, s, 8, true)
		time.Sleep(2 * time.Second)
		lives(t, s, 8, false)
	})
}

// A new leader counts every lease anew, gives short ones a grace, and takes long ones where the checkpoint left them.
func TestNewLeaderGivesLeasesTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := MemoryStorage()
		s := openOne(t, "", storage, nil)
		stop := runLessor(t, s)
		synctest.Wait()
		grant(t, s, 1, 2)
		grant(t, s, 2, 60)
		grant(t, s, 3, 1000)
		grant(t, s, 4, 1000)
		for range 15 {
			time.Sleep(time.Second)
			for _, id := range []int64{1, 2} {
				if _, err := s.Lessor().KeepAlive(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 11 {
			time.Sleep(30 * time.Second)
			if _, err := s.Lessor().KeepAlive(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
		}
		lives(t, s, 1, false)
		grant(t, s, 1, 2)
		// The checkpoint after five minutes wrote down 700 s for 3 and 4; the renewal of 4 takes that back.
		if _, err := s.Lessor().KeepAlive(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		if l, _ := s.View().Lease(3); l.Remaining != 700 {
			t.Errorf("the checkpoint says %d s", l.Remaining)
		}
		stop()
		s.Close()
		time.Sleep(time.Hour)
		began := time.Now()
		s = openOne(t, "", storage, nil)
		defer s.Close()
		defer runLessor(t, s)()
		synctest.Wait()
		for _, step := range []struct {
			after time.Duration
			id    int64
		}{{5 * time.Second, 1}, {60 * time.Second, 2}, {700 * time.Second, 3}, {1000 * time.Second, 4}} {
			time.Sleep(time.Until(began.Add(step.after - 100*time.Millisecond)))
			lives(t, s, step.id, true)
			time.Sleep(2 * time.Second)
			lives(t, s, step.id, false)
		}
	})
}

// A lease that is renewed while a checkpoint of what it had left is on its way has its whole time before it, with the next leader too.
func TestRenewalDuringCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := MemoryStorage()
		s := openOne(t, "", storage, nil)
		stop := runLessor(t, s)
		synctest.Wait()
		grant(t, s, 1, 1000)
		grant(t, s, 2, 1000)
		time.Sleep(299 * time.Second)
		renewed := make(chan error, 1)
		s.Lessor().checkpointBy(t.Context(), func(ctx context.Context, ops ...Op) (Outcome, error) {
			go func() {
				_, err := s.Lessor().KeepAlive(t.Context(), 2)
				renewed <- err
			}()
			synctest.Wait() // it is answered, or waits
			return s.proposeOwn(ctx, ops...)
		})
		if err := <-renewed; err != nil {
			t.Fatal(err)
		}
		stop()
		s.Close()
		began := time.Now()
		s = openOne(t, "", storage, nil)
		defer s.Close()
		defer runLessor(t, s)()
		synctest.Wait()
		time.Sleep(time.Until(began.Add(710 * time.Second)))
		lives(t, s, 1, false)
		time.Sleep(time.Until(began.Add(990 * time.Second)))
		lives(t, s, 2, true)
		time.Sleep(20 * time.Second)
		lives(t, s, 2, false)
	})
}

// followerPeer brings a follower's calls to the leader.
type followerPeer struct {
	members map[string]*Store
	calls   int
}

func (p *followerPeer) CallLeases(ctx context.Context, leader Leader, call LeaseCall) (LeaseReply, error) {
	p.calls++
	time.Sleep(time.Millisecond)
	return p.members[leader.ID].Lessor().Serve(ctx, call)
}

func TestFollowersRenewInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, onTransport := raft.NewInmemTransport("one")
		_, otherTransport := raft.NewInmemTransport("two")
		onTransport.Connect("two", otherTransport)
		otherTransport.Connect("one", onTransport)
		one := openOne(t, "", MemoryStorage(), func(c *Config) { c.Transport = onTransport })
		defer one.Close()
		two, err := Open(Config{Storage: MemoryStorage(), ServerID: "two", Join: true, Transport: otherTransport, Heartbeat: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer two.Close()
		if err := one.AddVoter(t.Context(), "two", "two"); err != nil {
			t.Fatal(err)
		}
		peer := &followerPeer{members: map[string]*Store{"one": one, "two": two}}
		two.Lessor().SetPeer(peer)
		defer runLessor(t, one)()
		defer runLessor(t, two)()
		synctest.Wait()
		var ops []Op
		for id := range int64(500) {
			ops = append(ops, LeaseGrant(id+1, 10))
		}
		propose(t, one, ops...)
		entries := one.raft.LastIndex()
		for range 4 {
			time.Sleep(8 * time.Second)
			var wg sync.WaitGroup
			for id := range int64(501) {
				wg.Go(func() {
					ttl, err := two.Lessor().KeepAlive(t.Context(), id+1)
					if id < 500 && (err != nil || ttl != 10) || id == 500 && !errors.Is(err, ErrNoLease) {
						t.Errorf("lease %d: %d, %v", id+1, ttl, err)
					}
				})
			}
			wg.Wait()
		}
		if left, err := two.Lessor().TimeToLive(t.Context(), 1); err != nil || left != 10 {
			t.Errorf("%d s left, %v", left, err)
		}
		if n := one.raft.LastIndex() - entries; n != 0 {
			t.Errorf("renewals made %d entries", n)
		}
		if peer.calls > 4*4+1 {
			t.Errorf("2,004 renewals went in %d calls", peer.calls)
		}
		time.Sleep(11 * time.Second)
		if n := one.View().leases.Len(); n != 0 {
			t.Errorf("%d leases outlive their time", n)
		}
	})
}

func TestRoundsShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		r := NewRounds(func(qs []int) ([]string, error) {
			calls++
			time.Sleep(time.Second)
			if qs[0] < 0 {
				return nil, errors.New("negative")
			}
			out := make([]string, len(qs))
			for i, q := range qs {
				out[i] = fmt.Sprint(q)
			}
			return out, nil
		})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				ctx := t.Context()
				if i%10 == 9 {
					short, cancel := context.WithTimeout(ctx, time.Millisecond)
					defer cancel()
					ctx = short
				}
				if got, err := r.Ask(ctx, i); err == nil && got != fmt.Sprint(i) || err != nil && i%10 != 9 {
					t.Errorf("%d: %q, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want one alone and one for all others", calls)
		}
		if _, err := r.Ask(t.Context(), -1); err == nil {
			t.Error("no error")
		}
		if got, err := r.Ask(t.Context(), 5); got != "5" || err != nil {
			t.Errorf("after an error: %q, %v", got, err)
		}
	})
}
