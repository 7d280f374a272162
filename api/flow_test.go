package api

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/authz"
)

// TestFlow fills the slots: the system's requests pass the others, the queue is bounded, and nobody waits for ever.
func TestFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(5)
		ctx := t.Context()
		for range 4 {
			if !f.enter(ctx, classOthers, 1) {
				t.Fatal("a free slot was refused")
			}
		}
		if !f.enter(ctx, classSystem, 1) {
			t.Fatal("the system's own slot was refused")
		}
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		wait := func(name string, c class) {
			wg.Go(func() {
				if f.enter(ctx, c, 1) {
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
				}
			})
			synctest.Wait()
		}
		wait("other", classOthers)
		wait("agent", classSystem)
		if n := f.queued(); n != 2 {
			t.Errorf("%d wait, want 2", n)
		}
		f.leave(1)
		synctest.Wait()
		if len(order) != 1 || order[0] != "agent" {
			t.Errorf("first came %v, want the agent", order)
		}
		f.leave(1)
		f.leave(1)
		wg.Wait()
		if len(order) != 2 {
			t.Errorf("served: %v", order)
		}
		// 3 are served and one more slot is for the others; then they wait, as many as fit the queue, until they are told to go.
		f.enter(ctx, classOthers, 1)
		var refused int
		for range 5*queuedPerSlot + 1 {
			wg.Go(func() {
				if !f.enter(ctx, classOthers, 1) {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		if refused != 1 || f.queued() != 5*queuedPerSlot {
			t.Errorf("%d were refused at once and %d wait", refused, f.queued())
		}
		wg.Wait()
		if refused != 5*queuedPerSlot+1 || f.queued() != 0 || f.busy != 4 {
			t.Errorf("after the limit: %d refused, %d wait, %d are served", refused, f.queued(), f.busy)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if f.enter(gone, classOthers, 1) {
			t.Error("a client that has gone was given a slot")
		}
	})
	if classOf(authz.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}) != classSystem || classOf(authz.User{Name: "admin", Groups: []string{authz.GroupMasters}}) != classOthers {
		t.Error("classes of users")
	}
}

// TestFlowOfHeavyRequests lets one that takes many slots wait until they are free: who comes later does not overtake it, and goes on when it has given
// up.
func TestFlowOfHeavyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(100)
		ctx := t.Context()
		if w := []int{f.weight(0), f.weight(99), f.weight(350), f.weight(1 << 20)}; !slices.Equal(w, []int{1, 1, 3, 5}) {
			t.Errorf("the weights of 0, 99, 350 and a million objects are %v", w)
		}
		for range 76 {
			if !f.enter(ctx, classOthers, 1) {
				t.Fatal("a free slot was refused")
			}
		}
		var wg sync.WaitGroup
		var heavy, light atomic.Bool
		given, give := context.WithCancel(ctx)
		wg.Go(func() { heavy.Store(f.enter(given, classOthers, 5)) })
		synctest.Wait()
		wg.Go(func() { light.Store(f.enter(ctx, classOthers, 1)) })
		synctest.Wait()
		if f.queued() != 2 {
			t.Fatalf("%d wait with 4 slots free, want the heavy request and the light one behind it", f.queued())
		}
		if !f.enter(ctx, classSystem, 5) {
			t.Error("the system's request was not served beside them")
		}
		f.leave(5)
		give()
		wg.Wait()
		if heavy.Load() || !light.Load() || f.busy != 77 {
			t.Errorf("the heavy one was served: %t, the light one: %t, %d slots are taken", heavy.Load(), light.Load(), f.busy)
		}
		f.leave(1)
		wg.Go(func() { heavy.Store(f.enter(ctx, classOthers, 5)) })
		synctest.Wait()
		f.leave(1)
		wg.Wait()
		if !heavy.Load() || f.busy != 80 {
			t.Errorf("the heavy one was served when its slots came free: %t, %d are taken", heavy.Load(), f.busy)
		}
	})
}

// TestFlowOfWatches bounds how many begin, and lets as many again begin with time.
func TestFlowOfWatches(t *testing.T) {
	f := newFlow(400)
	now := time.Now()
	begin := func(c class, weight int) (n int) {
		for f.begin(now, c, weight) {
			n++
		}
		return n
	}
	if n := begin(classOthers, 1); n != watchBurst {
		t.Errorf("%d watches began at once, want %d", n, watchBurst)
	}
	if n := begin(classSystem, 20); n != watchBurst/20 {
		t.Errorf("%d of the system's watches of many objects began, want %d", n, watchBurst/20)
	}
	now = now.Add(time.Second)
	if n := begin(classOthers, 1); n != watchRate {
		t.Errorf("%d watches began a second later, want %d", n, watchRate)
	}
}
