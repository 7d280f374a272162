package raftstore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A panic while an entry is applied stops the member and is written down, without a value of the entry; the same program refuses the folder at
// once and says what to do, and another one starts.
func TestPanicInApplyIsWrittenDown(t *testing.T) {
	dir := t.TempDir()
	mined := func(c *Config) {
		c.Index = func(r *Record) []string {
			if r.Key == "/mine" {
				panic("cannot index hunter2")
			}
			return nil
		}
	}
	s := openOne(t, dir, nil, mined)
	propose(t, s, put("/a", "1"))
	_, err := s.Propose(t.Context(), Entry{Base: s.View().Rev(), Ops: []Op{put("/mine", "hunter2")}})
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrPoisoned) {
		t.Errorf("the proposer is told: %v", err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("the member goes on: %v", err)
	}
	_ = s.Close()
	body, err := os.ReadFile(filepath.Join(dir, poisonName))
	if err != nil {
		t.Fatal(err)
	}
	var p poison
	if err := json.Unmarshal(body, &p); err != nil || p.Index == 0 || !strings.Contains(p.File, dir) || !strings.Contains(p.Stack, "poison_test.go") || strings.Contains(string(body), "hunter2") {
		t.Errorf("the file says %s, %v", body, err)
	}
	open := func(change func(*Config)) (*Store, error) {
		_, transport := raft.NewInmemTransport("one")
		c := Config{Dir: dir, Transport: transport, Heartbeat: 50 * time.Millisecond}
		change(&c)
		return Open(c)
	}
	for range 2 {
		_, err := open(mined)
		if !errors.Is(err, ErrPoisoned) || !strings.Contains(err.Error(), p.File) || !strings.Contains(err.Error(), filepath.Join(dir, poisonName)) || !strings.Contains(err.Error(), "another version") {
			t.Errorf("the same program says: %v", err)
		}
	}
	p.Program = "another"
	if body, err = json.Marshal(p); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, poisonName), body, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = open(func(*Config) {}) // another version, without the fault
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	waitLeader(t, s)
	if _, ok := s.View().Get("/mine"); !ok {
		t.Error("the entry was lost")
	}
	if _, err := os.Stat(filepath.Join(dir, poisonName)); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}
