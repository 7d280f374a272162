package raftstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// peerLogInterval is how often a peer that cannot be reached is told of. raft itself tells it at every try, several times a second.
const peerLogInterval = 10 * time.Second

// raftLogger writes raft's log into ours.
func raftLogger(l *slog.Logger) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off, Output: io.Discard})
	out.RegisterSink(newRaftLog(l, time.Now))
	return out
}

// raftLog is a hclog.SinkAdapter that says with our levels what raft says with its own. A peer that is away is news once, and not an
// error: raft goes on without it. Safe for concurrent use.
type raftLog struct {
	l   *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	peers map[string]*peerLog
	names map[string]string // server ID to address, as far as raft named both
}

// peerLog is what was said of one peer that is away.
type peerLog struct {
	last   time.Time
	hidden int
}

func newRaftLog(l *slog.Logger, now func() time.Time) *raftLog {
	return &raftLog{l: l, now: now, peers: map[string]*peerLog{}, names: map[string]string{}}
}

// Accept implements hclog.SinkAdapter.
func (r *raftLog) Accept(_ string, level hclog.Level, msg string, args ...any) {
	at := levelOf(level, msg, args)
	peer := r.peerOf(args)
	switch {
	case level < hclog.Info:
		return
	case unreachable(msg) && peer != "":
		hidden, ok := r.mayTell(peer)
		if !ok {
			return
		}
		at = slog.LevelWarn
		if hidden > 0 {
			args = append(args[:len(args):len(args)], "suppressed", hidden)
		}
	case strings.HasPrefix(msg, "pipelining replication") && r.isBack(peer):
		r.l.Info("raft: a peer answers again", "peer", peer)
		return
	}
	r.l.Log(context.Background(), at, "raft: "+msg, attributes(args)...)
}

// levelOf is the level at which we log. What raft calls Info are the steps of its elections and snapshots: details.
func levelOf(level hclog.Level, msg string, args []any) slog.Level {
	switch {
	case level < hclog.Warn, firstElection(msg, args), firstEntries(msg, args):
		return slog.LevelDebug
	case strings.HasPrefix(msg, "failed to decode incoming command"):
		// A connection has ended in the middle: the other end's, which says so itself if it is more than its stop, or our own.
		if fmt.Sprint(value(args, "error")) == raft.ErrTransportShutdown.Error() {
			return slog.LevelDebug
		}
		return slog.LevelWarn
	case level == hclog.Error:
		return slog.LevelError
	}
	return slog.LevelWarn
}

// firstEntries tells whether a line is about a member that has no log yet and is sent the whole of it, as every new member is.
func firstEntries(msg string, args []any) bool {
	switch {
	case strings.HasPrefix(msg, "failed to get previous log"):
		return fmt.Sprint(value(args, "last-index")) == "0"
	case strings.HasPrefix(msg, "appendEntries rejected, sending older logs"):
		return fmt.Sprint(value(args, "next")) == "1"
	}
	return false
}

// firstElection tells whether a line is about a member that never had a leader: a new cluster, or one that waits to be taken in.
func firstElection(msg string, args []any) bool {
	switch {
	case strings.HasPrefix(msg, "no known peers"), strings.HasPrefix(msg, "not part of stable configuration"),
		strings.HasPrefix(msg, "heartbeat timeout reached, not part"):
		return true
	case strings.HasPrefix(msg, "heartbeat timeout reached"):
		id := value(args, "last-leader-id")
		return id == nil || fmt.Sprint(id) == ""
	}
	return false
}

// unreachable tells whether a line says that a peer did not answer.
func unreachable(msg string) bool {
	for _, prefix := range []string{"failed to contact", "failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries",
		"failed to start pipeline replication", "failed to make requestVote RPC", "failed to send snapshot to", "failed to install snapshot"} {
		if strings.HasPrefix(msg, prefix) {
			return true
		}
	}
	return false
}

func value(args []any, key string) any {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == key {
			return args[i+1]
		}
	}
	return nil
}

// peerOf is the address of the peer that a line speaks of, or its ID where raft never named both; empty for none.
func (r *raftLog) peerOf(args []any) string {
	for _, key := range []string{"peer", "target", "server-id"} {
		switch v := value(args, key).(type) {
		case nil:
		case raft.Server:
			r.mu.Lock()
			r.names[string(v.ID)] = string(v.Address)
			r.mu.Unlock()
			return string(v.Address)
		default:
			name := fmt.Sprint(v)
			r.mu.Lock()
			defer r.mu.Unlock()
			if address, ok := r.names[name]; ok {
				return address
			}
			return name
		}
	}
	return ""
}

// mayTell tells whether it is time to say again that a peer is away, and how many lines were left out since the last.
func (r *raftLog) mayTell(peer string) (hidden int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, now := r.peers[peer], r.now()
	if p == nil {
		r.peers[peer] = &peerLog{last: now}
		return 0, true
	}
	if now.Sub(p.last) < peerLogInterval {
		p.hidden++
		return 0, false
	}
	hidden, p.hidden, p.last = p.hidden, 0, now
	return hidden, true
}

// isBack tells whether a peer of which was said that it is away is no longer so, and forgets it.
func (r *raftLog) isBack(peer string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers[peer] == nil {
		return false
	}
	delete(r.peers, peer)
	return true
}

// attributes turns hclog's pairs into slog's; raft's own types are written as text.
func attributes(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case raft.Server:
			out[i] = string(v.Address)
		case hclog.Format:
			out[i] = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		case string, error, int, int64, uint64, bool, time.Duration:
			out[i] = v
		default:
			out[i] = fmt.Sprint(v)
		}
	}
	return out
}
