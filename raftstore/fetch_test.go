package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// caughtUp waits until s has come as far as the leader.
func caughtUp(t *testing.T, s, leader *Store) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); s.View().Rev() < leader.View().Rev(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the member has come to %d, the leader to %d", s.View().Rev(), leader.View().Rev())
		}
	}
}

// TestSnapshotWaitsForItsBlobs sends a snapshot to a member that cannot get the blob which it names: it takes no place until the blob is there. A
// member that were killed with such a snapshot in place could never start again if what named the blob is removed meanwhile.
func TestSnapshotWaitsForItsBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, t1 := member(t, "one", Config{Bootstrap: true, TrailingEntries: 2})
		defer one.Close()
		waitLeader(t, one)
		body := bytes.Repeat([]byte("p"), 600<<10)
		digest, err := one.StageBlob(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		propose(t, one, Op{Kind: PutRef, Key: "/p", Value: []byte(digest)})
		for i := range 50 {
			propose(t, one, put(fmt.Sprintf("/k/%d", i), strings.Repeat("v", 1000)))
		}
		if err := one.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if low, err := one.storage.log.FirstIndex(); err != nil || low < 10 {
			t.Fatalf("the log begins at %d, %v: the test proves nothing", low, err)
		}
		var asked, serve atomic.Int64
		two, _ := member(t, "two", Config{Join: true, Dir: t.TempDir(), Fetch: func(_ context.Context, from Server, digest string) ([]byte, error) {
			if asked.Add(1); from.ID != "one" {
				t.Errorf("%v is asked for %s", from, digest)
			}
			if serve.Load() == 0 {
				return nil, fmt.Errorf("asked too early: %w", ErrNoBlob)
			}
			return one.ServeBlob(digest)
		}}, t1)
		defer two.Close()
		if err := one.AddNonvoter(t.Context(), "two", "two"); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); asked.Load() < 2; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the blob was asked for %d times", asked.Load())
			}
		}
		if list, err := two.storage.snaps.List(); err != nil || len(list) > 0 {
			t.Errorf("in place without its blob: %v, %v", list, err)
		}
		serve.Store(1)
		caughtUp(t, two, one)
		if got, err := two.Blob(digest); err != nil || !bytes.Equal(got, body) {
			t.Errorf("the blob: %d bytes, %v", len(got), err)
		}
		if list, err := two.storage.snaps.List(); err != nil || len(list) != 1 {
			t.Errorf("the snapshots: %v, %v", list, err)
		}
	})
}

// TestStartWithoutABlob starts a member whose snapshot names a blob that its disk has lost. It asks the others for it, for a while if they do not
// answer, and not again if each of them says that it has none.
func TestStartWithoutABlob(t *testing.T) {
	for name, c := range map[string]struct {
		fetch func(one *Store, digest string) ([]byte, error)
		// least is how long the start must take, most how long it may.
		least, most time.Duration
		err         error
	}{
		"another has it": {fetch: (*Store).ServeBlob, most: time.Second},
		"none has it": {
			fetch: func(*Store, string) ([]byte, error) { return nil, fmt.Errorf("asked: %w", ErrNoBlob) },
			most:  time.Second, err: ErrNoBlob,
		},
		"none answers": {
			fetch: func(*Store, string) ([]byte, error) { return nil, context.DeadlineExceeded },
			least: fetchFor, most: fetchFor + 2*time.Second, err: context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, t1 := member(t, "one", Config{Bootstrap: true})
				defer one.Close()
				waitLeader(t, one)
				cfg := Config{Join: true, Dir: t.TempDir(), Fetch: func(_ context.Context, _ Server, digest string) ([]byte, error) { return c.fetch(one, digest) }}
				two, _ := member(t, "two", cfg, t1)
				if err := one.AddNonvoter(t.Context(), "two", "two"); err != nil {
					t.Fatal(err)
				}
				digest, err := one.StageBlob(t.Context(), []byte("a pack"))
				if err != nil {
					t.Fatal(err)
				}
				propose(t, one, Op{Kind: PutRef, Key: "/p", Value: []byte(digest)})
				caughtUp(t, two, one)
				if err := errors.Join(two.Snapshot(), two.storage.blobs.Remove(digest), two.Close()); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				two, err = open("two", cfg, t1)
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("the start took %v, want %v to %v", took, c.least, c.most)
				}
				if !errors.Is(err, c.err) {
					t.Fatalf("the start: %v, want %v", err, c.err)
				}
				if err == nil {
					defer two.Close()
					caughtUp(t, two, one)
					if _, err := two.Blob(digest); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
