package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

// openOne opens a member alone on dir, or on storage if dir is empty, and waits until it leads.
func openOne(t testing.TB, dir string, storage *Storage, change func(*Config)) *Store {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	cfg := Config{Dir: dir, Storage: storage, ServerID: "one", Bootstrap: true, Transport: transport, Heartbeat: 50 * time.Millisecond, CommitTimeout: 5 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	waitLeader(t, s)
	return s
}

func waitLeader(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		changed := s.LeaderChanged()
		if s.Leader().Self {
			if err := s.Barrier(ctx); err == nil {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("no leader")
		}
	}
}

func put(key, value string) Op { return Op{Kind: Put, Key: key, Value: []byte(value)} }

func propose(t testing.TB, s *Store, ops ...Op) Outcome {
	t.Helper()
	out, err := s.Propose(t.Context(), Entry{Base: s.View().Rev(), Time: time.Now().UnixNano(), Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestProposeTakesABlockOfRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		before := s.View()
		out := propose(t, s, put("/a/1", "x"), put("/a/2", "y"), put("/b/1", "z"))
		if out.First != 1 || out.Last != 3 {
			t.Fatalf("block %d..%d, want 1..3", out.First, out.Last)
		}
		propose(t, s, put("/a/1", "x2"), Op{Kind: Delete, Key: "/a/2"})
		v := s.View()
		r, ok := v.Get("/a/1")
		if !ok || string(r.Value) != "x2" || r.ModRev != 4 || r.CreateRev != 1 || r.Version != 2 {
			t.Errorf("/a/1 is %+v", r)
		}
		if _, ok := v.Get("/a/2"); ok {
			t.Error("/a/2 was deleted and is there")
		}
		if before.Rev() != 0 || before.Len() != 0 {
			t.Errorf("an old view changed: revision %d, %d keys", before.Rev(), before.Len())
		}
		var keys []string
		for r := range v.Range("/") {
			keys = append(keys, r.Key)
		}
		if got := strings.Join(keys, " "); got != "/a/1 /b/1" {
			t.Errorf("range gives %s", got)
		}
	})
}

func TestProposeRefusesAStaleBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		propose(t, s, put("/a", "1"))
		nonce := s.Nonce()
		_, err := s.Propose(t.Context(), Entry{Base: 0, Nonce: nonce, Ops: []Op{put("/a", "2")}})
		if !errors.Is(err, ErrRefused) {
			t.Fatalf("error %v, want ErrRefused", err)
		}
		out, ok := s.Outcome(nonce)
		if !ok || !out.Refused {
			t.Errorf("outcome %+v %v, want a refusal", out, ok)
		}
		if r, _ := s.View().Get("/a"); string(r.Value) != "1" {
			t.Errorf("/a is %s after a refused entry", r.Value)
		}
	})
}

func TestEntryOverTheLimitIsStagedAndSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		w, err := s.Watch("/", 0)
		if err != nil {
			t.Fatal(err)
		}
		var ops []Op
		noise := rand.NewChaCha8([32]byte{})
		for i := range 1000 {
			value := make([]byte, 2000) // that cannot be compressed
			noise.Read(value)
			ops = append(ops, put(fmt.Sprintf("/pods/%04d", i), string(value)))
		}
		ops[7].Decoded = "kept"
		out := propose(t, s, ops...)
		if out.First != 1 || out.Last != 1000 {
			t.Fatalf("block %d..%d, want 1..1000", out.First, out.Last)
		}
		events, rev, err := w.Next(t.Context())
		if err != nil || len(events) != 1000 || rev != 1000 {
			t.Fatalf("watch gave %d events up to %d, %v", len(events), rev, err)
		}
		if got := events[7].Rec.Decoded(func(*Record) any { return "decoded again" }); got != "kept" {
			t.Errorf("the decoded value of the proposer is %v", got)
		}
		if list, _ := s.storage.blobs.List(); len(list) != 0 {
			t.Errorf("the staged operations are still there: %v", list)
		}
	})
}

func TestBlobLivesWhileAKeyRefersToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		body := bytes.Repeat([]byte("pack"), 300<<10)
		digest, err := s.StageBlob(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		lost, err := s.StageBlob(t.Context(), []byte("nobody refers to this"))
		if err != nil {
			t.Fatal(err)
		}
		propose(t, s, Op{Kind: PutRef, Key: "/git/packs/1", Value: []byte(digest)})
		time.Sleep(collectAfter + 2*collectEvery)
		synctest.Wait()
		if got, err := s.Blob(digest); err != nil || !bytes.Equal(got, body) {
			t.Errorf("the blob that a key refers to: %d bytes, %v", len(got), err)
		}
		if _, err := s.Blob(lost); !errors.Is(err, ErrNoBlob) {
			t.Errorf("the blob that nothing refers to: error %v, want ErrNoBlob", err)
		}
		_, err = s.Propose(t.Context(), Entry{Base: s.View().Rev(), Ops: []Op{{Kind: PutRef, Key: "/git/packs/2", Value: []byte(lost)}}})
		if !errors.Is(err, ErrRefused) {
			t.Errorf("an entry that names a lost blob: error %v, want ErrRefused", err)
		}
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	for _, snap := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snap), func(t *testing.T) {
			dir := t.TempDir()
			s := openOne(t, dir, nil, nil)
			digest, err := s.StageBlob(t.Context(), bytes.Repeat([]byte("x"), 700<<10))
			if err != nil {
				t.Fatal(err)
			}
			propose(t, s, put("/a", "1"), Op{Kind: PutRef, Key: "/p", Value: []byte(digest)})
			if snap {
				if err := s.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			propose(t, s, put("/b", "2"))
			was := s.View()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openOne(t, dir, nil, nil)
			if err := Equal(was, s.View()); err != nil {
				t.Error(err)
			}
			if b, err := s.Blob(digest); err != nil || len(b) != 700<<10 {
				t.Errorf("blob: %d bytes, %v", len(b), err)
			}
			w, err := s.Watch("/", 1)
			if err != nil {
				t.Fatal(err)
			}
			events, _, err := w.Poll()
			if err != nil || len(events) != 2 || events[0].Key != "/p" || events[1].Key != "/b" {
				t.Errorf("a watch inside a block after a restart: %d events, %v", len(events), err)
			}
		})
	}
}

func TestEmptiedFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openOne(t, dir, nil, nil)
	for i := range 3 {
		propose(t, s, put("/a", fmt.Sprint(i)))
	}
	s.Close()
	open := func(change func(*Config)) error {
		_, transport := raft.NewInmemTransport("one")
		cfg := Config{Dir: dir, ServerID: "one", Transport: transport}
		change(&cfg)
		s, err := Open(cfg)
		if err == nil {
			s.Close()
		}
		return err
	}
	none := func(*Config) {}
	wants := func(err error, word string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, want one with %q", err, word)
		}
	}
	wants(open(func(c *Config) { c.ServerID = "two" }), `belongs to server "one"`)

	db := filepath.Join(dir, stableName)
	body, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	truncate := func() {
		if err := os.Truncate(db, 0); err != nil {
			t.Fatal(err)
		}
	}
	truncate()
	wants(open(func(c *Config) { c.Bootstrap = true }), "the vote in raft.db")
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	wants(open(func(c *Config) { c.Bootstrap = true }), "log was lost")
	if err := os.WriteFile(db, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(none); err != nil {
		t.Errorf("the folder as it was: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, identityName)); err != nil {
		t.Fatal(err)
	}
	wants(open(none), "no "+identityName)
	wants(open(func(c *Config) { c.Bootstrap = true }), "no "+identityName)
	dir = t.TempDir()
	wants(open(none), "neither a new cluster nor a join")
	// A first start that was killed before it wrote its identity may be begun again.
	bolt, err := openFolder(&Config{Dir: dir, FS: disk.OS{}, Log: LogWAL, Bootstrap: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := bolt.close(); err != nil {
		t.Fatal(err)
	}
	if err := open(func(c *Config) { c.Bootstrap = true }); err != nil {
		t.Errorf("a first start after a killed one: %v", err)
	}
}

// A barrier whose caller has gone counts as applied all the same: nothing else raises the index of an idle leader.
func TestAbandonedBarrierHoldsUpNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		propose(t, s, put("/a", "1"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for left := 20; ; left-- { // the answer may be there as soon as the end of ctx
			if err := s.Barrier(ctx); errors.Is(err, context.Canceled) {
				break
			} else if left == 0 {
				t.Fatalf("no barrier was abandoned: %v", err)
			}
		}
		synctest.Wait()
		began := time.Now()
		if rev, err := s.ReadIndex(t.Context()); err != nil || rev != 1 || time.Since(began) > time.Second {
			t.Errorf("read: revision %d, %v, after %v", rev, err, time.Since(began))
		}
	})
}

func TestReadIndexWaitsForItsOwnState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), nil)
		defer s.Close()
		for i := range 20 {
			out := propose(t, s, put("/a", fmt.Sprint(i)))
			rev, err := s.ReadIndex(t.Context())
			if err != nil || rev < out.Last {
				t.Fatalf("read index %d, %v, after a write at %d", rev, err, out.Last)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.WaitRev(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a revision to come: %v", err)
		}
	})
}

// A watch from a revision that this member has not reached, as after a restart or behind the leader, tells nothing before it.
func TestWatchAheadOfTheStateTellsNothingBefore(t *testing.T) {
	s := openOne(t, t.TempDir(), nil, nil)
	propose(t, s, put("/a", "1"))
	w, err := s.Watch("/", 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"2", "3", "4"} {
		propose(t, s, put("/a", v))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	events, upTo, err := w.Next(ctx)
	if err != nil || len(events) != 1 || events[0].Rev != 4 || upTo != 4 {
		t.Errorf("events %v up to %d, %v; want revision 4 alone", events, upTo, err)
	}
}
