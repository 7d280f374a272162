package api

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"reconcile/authz"
)

// TestFlow fills the slots: the system's requests pass the others, the queue is bounded, and nobody waits for ever.
func TestFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flow{slots: 5}
		ctx := t.Context()
		for range 4 {
			if !f.enter(ctx, classOthers) {
				t.Fatal("a free slot was refused")
			}
		}
		if !f.enter(ctx, classSystem) {
			t.Fatal("the system's own slot was refused")
		}
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		wait := func(name string, c class) {
			wg.Go(func() {
				if f.enter(ctx, c) {
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
		f.leave()
		synctest.Wait()
		if len(order) != 1 || order[0] != "agent" {
			t.Errorf("first came %v, want the agent", order)
		}
		f.leave()
		f.leave()
		wg.Wait()
		if len(order) != 2 {
			t.Errorf("served: %v", order)
		}
		// 3 are served and one more slot is for the others; then they wait, as many as fit the queue, until they are told to go.
		f.enter(ctx, classOthers)
		var refused int
		for range 5*queuedPerSlot + 1 {
			wg.Go(func() {
				if !f.enter(ctx, classOthers) {
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
		if f.enter(gone, classOthers) {
			t.Error("a client that has gone was given a slot")
		}
	})
	if classOf(authz.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}) != classSystem || classOf(authz.User{Name: "admin", Groups: []string{authz.GroupMasters}}) != classOthers {
		t.Error("classes of users")
	}
}
