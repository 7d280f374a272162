package raftstore

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestConfirmAsksAsManyAsItNeeds: of three members one answer is enough, so that one is asked; the other one when the first is silent, and from
// then on before it.
func TestConfirmAsksAsManyAsItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []raft.ServerID
		silent := make(chan struct{})
		hangs := false
		var wg sync.WaitGroup
		c := &confirmer{self: "1", spawn: wg.Go, stop: make(chan struct{}), pause: 50 * time.Millisecond, peers: map[raft.ServerID]*voice{}}
		c.ask = func(to raft.Server, term uint64) (uint64, error) {
			mu.Lock()
			asked = append(asked, to.ID)
			hold := hangs && to.ID == "2"
			mu.Unlock()
			if hold {
				<-silent
			}
			return term, nil
		}
		servers := []raft.Server{{ID: "1"}, {ID: "2"}, {ID: "3"}}
		confirm := func(want time.Duration, whom ...raft.ServerID) {
			t.Helper()
			mu.Lock()
			asked = nil
			mu.Unlock()
			began := time.Now()
			if err := c.confirm(t.Context(), 7, servers, func() (bool, <-chan struct{}) { return true, nil }); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(asked, whom) || took != want {
				t.Fatalf("asked %v in %s, want %v in %s", asked, took, whom, want)
			}
		}
		confirm(0, "2")
		mu.Lock()
		hangs = true
		mu.Unlock()
		confirm(c.pause, "2", "3")
		confirm(0, "3")
		close(silent)
		wg.Wait()
		confirm(0, "2")
	})
}

// TestPacedRounds: what is asked soon after a round waits for the next one, and shares it.
func TestPacedRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pace = time.Millisecond
		var sizes []int
		r := newPacedRounds(pace, func(q []int) ([]int, error) {
			sizes = append(sizes, len(q))
			return q, nil
		})
		began := time.Now()
		if n, err := r.Ask(t.Context(), 1); err != nil || n != 1 || time.Since(began) != 0 {
			t.Fatal("the first one waited", n, err, time.Since(began))
		}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if n, err := r.Ask(t.Context(), i); err != nil || n != i {
					t.Error(n, err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(sizes, []int{1, 5}) || time.Since(began) != pace {
			t.Fatalf("rounds of %v questions in %s", sizes, time.Since(began))
		}
	})
}
