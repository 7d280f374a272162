package raftstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/seal"
)

// crashDir is the variable by which the test starts itself again as a server that is to be killed.
const (
	crashDir = "RECONCILE_TEST_CRASH_DIR"
	crashKey = "RECONCILE_TEST_CRASH_KEY" // file of the outer key; empty: not encrypted
	crashLog = "RECONCILE_TEST_CRASH_LOG"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := crashServer(dir, os.Getenv(crashKey), os.Getenv(crashLog)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func openCrashStore(dir, key, kind string) (*Store, error) {
	_, transport := raft.NewInmemTransport("one")
	// Few entries a snapshot, so that kills meet snapshots too.
	cfg := Config{Dir: dir, ServerID: "one", Bootstrap: true, Transport: transport, Heartbeat: 20 * time.Millisecond, Log: kind,
		SnapshotEntries: 50, TrailingEntries: 20, SnapshotInterval: 20 * time.Millisecond}
	if key != "" {
		cfg.Key = seal.File(key)
	}
	s, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		changed := s.LeaderChanged()
		if s.Leader().Self {
			if err := s.Barrier(ctx); err == nil {
				return s, nil
			}
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader: %w", ctx.Err())
		}
	}
}

// crashKeys is how many keys each entry writes.
const crashKeys = 5

// crashServer writes entry after entry until it is killed: it prints "try N" before and "ack N" after each. Every 13th goes through
// a staged blob, every 7th refers to one.
func crashServer(dir, key, kind string) error {
	s, err := openCrashStore(dir, key, kind)
	if err != nil {
		return err
	}
	for n := s.View().Rev(); ; n++ {
		fmt.Println("try", n)
		if err := crashWrite(s, n); err != nil {
			return err
		}
		fmt.Println("ack", n)
	}
}

func crashWrite(s *Store, n uint64) error {
	ctx := context.Background()
	value := []byte(fmt.Sprint(canary, n))
	if n%13 == 0 {
		noise := make([]byte, 100<<10) // that cannot be compressed
		rand.NewChaCha8([32]byte{byte(n)}).Read(noise)
		value = append(value, noise...)
	}
	var ops []Op
	for k := range crashKeys {
		ops = append(ops, Op{Kind: Put, Key: fmt.Sprintf("/e/%06d/%d/%s", n, k, canary), Value: value})
	}
	if n%7 == 0 {
		digest, err := s.StageBlob(ctx, []byte(fmt.Sprintf("blob of %d %s", n, canary)))
		if err != nil {
			return err
		}
		ops[0] = Op{Kind: PutRef, Key: ops[0].Key, Value: []byte(digest)}
	}
	_, err := s.Propose(ctx, Entry{Base: s.View().Rev(), Ops: ops})
	return err
}

// A server that is killed at any moment has every acknowledged entry after its restart, and each other one wholly or not at all.
func TestKillNineLosesNothingAcknowledged(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir, key := t.TempDir(), filepath.Join(t.TempDir(), "outer.key")
	acked := map[string]bool{}
	for round := range 10 * rounds {
		if round >= rounds && len(acked) >= rounds*3 {
			break // a slow disk needs more rounds for as many
		}
		out := runAndKill(t, dir, time.Duration(30+rand.IntN(400))*time.Millisecond, crashKey+"="+key)
		for line := range strings.Lines(out) {
			if n, ok := strings.CutPrefix(line, "ack "); ok && strings.HasSuffix(line, "\n") {
				acked[strings.TrimSpace(n)] = true
			}
		}
		s, err := openCrashStore(dir, key, "")
		if err != nil {
			t.Fatal(err)
		}
		checkCrash(t, s, acked)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) < rounds*3 {
		t.Errorf("only %d entries were acknowledged in %d rounds: the test proves little", len(acked), rounds)
	}
	t.Logf("%d entries acknowledged in %d rounds", len(acked), rounds)
}

func runAndKill(t *testing.T, dir string, after time.Duration, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), crashDir+"="+dir), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lines := bufio.NewReader(pipe)
	first, err := lines.ReadString('\n') // it has opened its folder and leads
	out.WriteString(first)
	if err != nil {
		t.Fatalf("the server did not start: %v\n%s", err, stderr.String())
	}
	killer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	if _, err := lines.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if stderr.Len() > 0 {
		t.Fatalf("the server failed before it was killed: %s", stderr.String())
	}
	return out.String()
}

func checkCrash(t *testing.T, s *Store, acked map[string]bool) {
	t.Helper()
	v := s.View()
	entries := map[string]int{}
	for r := range v.Range("/e/") {
		var n, k int
		if _, err := fmt.Sscanf(r.Key, "/e/%06d/%d", &n, &k); err != nil {
			t.Fatal(err)
		}
		if r.ref {
			if body, err := s.Blob(string(r.Value)); err != nil || string(body) != fmt.Sprintf("blob of %d %s", n, canary) {
				t.Errorf("the blob of entry %d: %q, %v", n, body, err)
			}
		}
		entries[fmt.Sprint(n)]++
	}
	for n, keys := range entries {
		if keys != crashKeys {
			t.Errorf("entry %s is there with %d keys of %d", n, keys, crashKeys)
		}
	}
	for n := range acked {
		if entries[n] == 0 {
			t.Errorf("the acknowledged entry %s is lost", n)
		}
	}
}
