package etcdapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"reconcile/internal/testcluster/member"
	"reconcile/raftstore"
)

// bare is a cluster of bare members in this process.
type bare struct {
	t       testing.TB
	dir     string
	peers   []member.Peer
	members []*member.Member
	tweak   func(*member.Config)
}

// newBare starts n members and waits for a leader.
func newBare(t testing.TB, n int, tweak func(*member.Config)) *bare {
	b := &bare{t: t, dir: t.TempDir(), members: make([]*member.Member, n), tweak: tweak}
	number := clusters.Add(1)
	for i := range n {
		ip := addressOf(number, i)
		b.peers = append(b.peers, member.Peer{ID: fmt.Sprintf("m%d", i+1), Raft: ip + ":7001", Forward: ip + ":7002", Etcd: ip + ":7003"})
	}
	for i := range n {
		b.start(i)
	}
	t.Cleanup(func() {
		for i := range n {
			b.stop(i)
		}
	})
	b.leader()
	return b
}

// clusters counts those of this process.
var clusters atomic.Uint32

// addressOf gives each member of each cluster of each process a loopback address of its own: ports that are looked for may be taken by
// another before they are used.
func addressOf(cluster uint32, member int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid%128, pid/128%256, int(cluster)*8%248+member+1)
}

func (b *bare) start(i int) {
	// A busy machine holds several members up for longer than a short timeout: then there is no leader for a while, and a write hears so.
	beat := 300 * time.Millisecond
	if len(b.peers) > 1 {
		beat = 3 * time.Second
	}
	cfg := member.Config{
		ID: b.peers[i].ID, Peers: b.peers, AllowRegistryWrites: true, ProgressEvery: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Store: raftstore.Config{Dir: filepath.Join(b.dir, b.peers[i].ID), Heartbeat: beat, CommitTimeout: 5 * time.Millisecond},
	}
	if b.tweak != nil {
		b.tweak(&cfg)
	}
	m, err := member.Start(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.members[i] = m
}

func (b *bare) stop(i int) {
	if b.members[i] == nil {
		return
	}
	if err := b.members[i].Close(); err != nil {
		b.t.Errorf("close member %d: %v", i, err)
	}
	b.members[i] = nil
}

// leader is the number of the member that leads.
func (b *bare) leader() int {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		for i, m := range b.members {
			if m != nil && m.Store.Leader().Self && m.Sequencer.Barrier(b.t.Context()) == nil {
				return i
			}
		}
		wait(b.t.Context())
	}
	b.t.Fatal("no member leads")
	return -1
}

// wait gives others a moment, for loops that wait for a condition.
func wait(ctx context.Context) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
	}
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		wait(t.Context())
	}
}

// follower is the number of a member that does not lead.
func (b *bare) follower() int { return (b.leader() + 1) % len(b.members) }

// client is etcd's own, of the members with the given numbers, or of all.
func (b *bare) client(of ...int) *clientv3.Client {
	var endpoints []string
	for i, p := range b.peers {
		if len(of) == 0 {
			endpoints = append(endpoints, p.Etcd)
		}
		for _, k := range of {
			if i == k {
				endpoints = append(endpoints, p.Etcd)
			}
		}
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
