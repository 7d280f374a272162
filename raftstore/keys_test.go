package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// canary is in every key, value and blob that the crash server writes when its folder is to be searched.
const canary = "CANARY-d41f7c"

// search returns the files under dir that hold the words.
func search(t *testing.T, dir string, words ...string) []string {
	t.Helper()
	var hits []string
	for _, name := range listFiles(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if bytes.Contains(b, []byte(w)) {
				hits = append(hits, name)
			}
		}
	}
	return hits
}

// No file of an encrypted folder holds a word of what was written: not after puts, blobs and snapshots, not after kill -9 at any moment,
// and not after the keys were rotated. The same search finds it in a folder that is not encrypted.
func TestCanary(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 2
	}
	for _, kind := range []string{LogWAL, LogBoltDB} {
		for _, encrypted := range []bool{true, false} {
			t.Run(fmt.Sprintf("log=%s/encrypted=%v", kind, encrypted), func(t *testing.T) {
				dir, key := t.TempDir(), ""
				if encrypted {
					key = filepath.Join(t.TempDir(), "outer.key")
				}
				for range rounds {
					runAndKill(t, dir, 150*time.Millisecond, crashKey+"="+key, crashLog+"="+kind)
					hits := search(t, dir, canary)
					if encrypted && len(hits) > 0 {
						t.Fatalf("what was written stands in %s", strings.Join(hits, ", "))
					}
					if !encrypted && len(hits) == 0 {
						t.Fatal("the search finds nothing where it must")
					}
				}
				if !encrypted {
					return
				}
				s, err := openCrashStore(dir, key, kind)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.RotateKey(); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if hits := search(t, dir, canary); len(hits) > 0 {
					t.Errorf("what was written stands in %s", strings.Join(hits, ", "))
				}
			})
		}
	}
}

// Keys are rotated while a member writes: everything stays readable, and the old key is forgotten when the log has moved on.
func TestRotateKeys(t *testing.T) {
	dir, key := t.TempDir(), seal.File(filepath.Join(t.TempDir(), "outer.key"))
	open := func() *Store {
		return openOne(t, dir, nil, func(c *Config) { c.Key, c.SnapshotEntries, c.TrailingEntries = key, 100000, 4 })
	}
	s := open()
	digest, err := s.StageBlob(t.Context(), []byte(noise(1, 100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	propose(t, s, Op{Kind: PutRef, Key: "/blob", Value: []byte(digest)}, put("/a", "1"))
	if err := s.Snapshot(); err != nil {
		t.Fatal(err)
	}
	// As the command line does it, from another process.
	ring, err := seal.Open(disk.OS{}, filepath.Join(dir, ringName), key, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; ; i++ {
		propose(t, s, put("/fill", noise(uint64(i), 60<<10)))
		if i%50 == 49 {
			if err := s.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		if keys := s.Keys(); len(keys) == 1 && keys[0].ID == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the old key is still there: %+v", s.Keys())
		}
	}
	check := func() {
		t.Helper()
		if r, ok := s.View().Get("/a"); !ok || string(r.Value) != "1" {
			t.Error("a value from before is lost")
		}
		if b, err := s.Blob(digest); err != nil || string(b) != noise(1, 100<<10) {
			t.Errorf("a blob from before: %d bytes, %v", len(b), err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Wrong or missing keys.
	try := func(k seal.Source, words ...string) {
		t.Helper()
		_, transport := raft.NewInmemTransport("one")
		s, err := Open(Config{Dir: dir, ServerID: "one", Transport: transport, Key: k})
		if err == nil {
			s.Close()
		}
		for _, w := range words {
			if !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), w) {
				t.Errorf("error %v, want one with %q", err, w)
			}
		}
	}
	other := seal.File(filepath.Join(t.TempDir(), "other.key"))
	try(nil, dir, "--key-file")
	try(other, string(other), "is missing")
	if _, err := other.Key(true); err != nil {
		t.Fatal(err)
	}
	try(other, string(other), ringName, "fingerprint")
}
