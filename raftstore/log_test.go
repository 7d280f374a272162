package raftstore

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestRaftLog: what raft says of a dead peer and of a first start, as a person reads it.
func TestRaftLog(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off})
	l.RegisterSink(newRaftLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), func() time.Time { return now }))
	two, three := raft.Server{ID: "two", Address: "10.0.0.2:6443"}, raft.Server{ID: "three", Address: "10.0.0.3:6443"}
	refused := errors.New("connection refused")

	l.Warn("heartbeat timeout reached, starting election", "last-leader-addr", raft.ServerAddress(""), "last-leader-id", raft.ServerID(""))
	l.Warn("no known peers, aborting election")
	l.Warn("failed to get previous log", "previous-index", uint64(9), "last-index", uint64(0), "error", errors.New("log not found"))
	l.Warn("appendEntries rejected, sending older logs", "peer", two, "next", uint64(1))
	l.Error("failed to decode incoming command", "error", raft.ErrTransportShutdown)
	l.Debug("asking for pre-vote", "term", 1)
	for range 50 { // 25 s of a dead peer, twice a second, told in three ways
		l.Error("failed to appendEntries to", "peer", two, "error", refused)
		l.Error("failed to heartbeat to", "peer", two.Address, "backoff time", time.Second, "error", refused)
		l.Warn("failed to contact", "server-id", two.ID, "time", time.Second)
		now = now.Add(500 * time.Millisecond)
	}
	l.Error("failed to make requestVote RPC", "target", three, "error", refused, "term", uint64(7))
	l.Info("pipelining replication", "peer", two)
	l.Info("pipelining replication", "peer", two)
	l.Warn("heartbeat timeout reached, starting election", "last-leader-addr", two.Address, "last-leader-id", two.ID)
	l.Warn("failed to get previous log", "previous-index", uint64(9), "last-index", uint64(8), "error", errors.New("log not found"))
	l.Error("failed to decode incoming command", "error", errors.New("connection reset by peer"))
	l.Error("failed to commit logs", "error", errors.New("no space left"))

	want := `level=WARN msg="raft: failed to appendEntries to" peer=10.0.0.2:6443 error="connection refused"
level=WARN msg="raft: failed to appendEntries to" peer=10.0.0.2:6443 error="connection refused" suppressed=59
level=WARN msg="raft: failed to appendEntries to" peer=10.0.0.2:6443 error="connection refused" suppressed=59
level=WARN msg="raft: failed to make requestVote RPC" target=10.0.0.3:6443 error="connection refused" term=7
level=INFO msg="raft: a peer answers again" peer=10.0.0.2:6443
level=WARN msg="raft: heartbeat timeout reached, starting election" last-leader-addr=10.0.0.2:6443 last-leader-id=two
level=WARN msg="raft: failed to get previous log" previous-index=9 last-index=8 error="log not found"
level=WARN msg="raft: failed to decode incoming command" error="connection reset by peer"
level=ERROR msg="raft: failed to commit logs" error="no space left"
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
