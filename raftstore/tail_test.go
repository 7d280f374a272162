package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/wal"
)

// peers speak to one member, b, as the leaders a and c of a cluster of three would.
type peers struct {
	t   *testing.T
	b   *Store
	way *link
}

func withPeers(t *testing.T, change func(*Config)) *peers {
	t.Helper()
	own := newLink("b")
	cfg := Config{ServerID: "b", Bootstrap: true, Transport: own, Heartbeat: time.Minute, Servers: []Server{
		{ID: "a", Address: "a", Voter: true}, {ID: "b", Address: "b", Voter: true}, {ID: "c", Address: "c", Voter: true}}}
	change(&cfg)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &peers{t, s, newLink("peers", own)}
}

func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

// entriesOf are entries of a term, each of which puts a key named for it.
func entriesOf(from, to, term uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		e := &Entry{Base: i - 2, Nonce: i, node: 1, Ops: []Op{put(fmt.Sprintf("/%d/%d", term, i), "v")}}
		logs = append(logs, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: e.encode()})
	}
	return logs
}

// send is a message of the leader of a term: entries behind prev, of term prevTerm.
func (p *peers) send(term, prev, prevTerm uint64, logs []*raft.Log, commit uint64) bool {
	p.t.Helper()
	var resp raft.AppendEntriesResponse
	req := raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm, Entries: logs, LeaderCommitIndex: commit}
	if err := p.way.InmemTransport.AppendEntries("b", "b", &req, &resp); err != nil {
		p.t.Fatal(err)
	}
	return resp.Success
}

// install sends a snapshot of entries up to index, all of the term.
func (p *peers) install(term, index uint64) {
	p.t.Helper()
	f := newMachine(byFirst)
	for _, l := range entriesOf(2, index, term) {
		if _, ok := f.Apply(l).(Outcome); !ok {
			p.t.Fatal(f.failed)
		}
	}
	snap, err := f.Snapshot()
	if err != nil {
		p.t.Fatal(err)
	}
	var body sink
	if err := snap.Persist(&body); err != nil {
		p.t.Fatal(err)
	}
	snap.Release()
	req := raft.InstallSnapshotRequest{RPCHeader: header("a"), SnapshotVersion: raft.SnapshotVersionMax, Term: term, Leader: []byte("a"), LastLogIndex: index, LastLogTerm: term,
		Configuration: raft.EncodeConfiguration(p.b.raft.GetConfiguration().Configuration()), ConfigurationIndex: 1, Size: int64(body.Len())}
	var resp raft.InstallSnapshotResponse
	if err := p.way.InmemTransport.InstallSnapshot("b", "b", &req, &resp, bytes.NewReader(body.Bytes())); err != nil || !resp.Success {
		p.t.Fatalf("the snapshot was not taken over: %v", err)
	}
}

func (p *peers) has(keys ...string) {
	p.t.Helper()
	v := p.b.View()
	for _, key := range keys {
		if _, ok := v.Get(key); !ok {
			p.t.Errorf("the key %s is missing", key)
		}
	}
	if v.Len() != len(keys) {
		p.t.Errorf("the member has %d keys, not %d", v.Len(), len(keys))
	}
}

// A member whose log reaches past the snapshot that it takes over, with entries that lost, goes on behind it without a restart.
func TestStaleTailBehindAnInstalledSnapshot(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"wal": func(c *Config) { c.Dir = t.TempDir() }, "boltdb": func(c *Config) { c.Dir, c.Log = t.TempDir(), LogBoltDB },
		"memory": func(c *Config) { c.Storage = MemoryStorage() },
	} {
		t.Run(name, func(t *testing.T) {
			p := withPeers(t, change)
			if !p.send(2, 1, 1, entriesOf(2, 10, 2), 1) {
				t.Fatal("the first entries were refused")
			}
			p.install(3, 5)
			if !p.send(3, 5, 3, nil, 5) {
				t.Error("the end of its own snapshot is refused")
			}
			if !p.send(3, 5, 3, entriesOf(6, 8, 3), 7) {
				t.Fatal("what follows the snapshot is refused")
			}
			if err := p.b.WaitRev(t.Context(), 6); err != nil {
				t.Fatal(err)
			}
			p.has("/3/2", "/3/3", "/3/4", "/3/5", "/3/6", "/3/7")
			for i := uint64(6); i <= 8; i++ {
				var l raft.Log
				if err := p.b.disk.GetLog(i, &l); err != nil || l.Term != 3 {
					t.Errorf("entry %d is of term %d, %v", i, l.Term, err)
				}
			}
			var l raft.Log
			if err := p.b.disk.GetLog(9, &l); err == nil {
				t.Errorf("entry 9 of the lost leader is still there: %+v", l)
			}
		})
	}
}

// What a leader says is committed holds for entries that it has compared with the member's: not for a stale tail behind them.
func TestCommitIndexStopsAtWhatWasCompared(t *testing.T) {
	p := withPeers(t, func(c *Config) { c.Storage = MemoryStorage() })
	if !p.send(2, 1, 1, entriesOf(2, 10, 2), 1) {
		t.Fatal("the first entries were refused")
	}
	// raft's leader reads its last index, then (a pause later) its commit index, and sends nothing but that.
	if !p.send(3, 1, 1, nil, 4) {
		t.Fatal("the message was refused")
	}
	if c := p.b.raft.CommitIndex(); c != 1 {
		t.Errorf("entries up to %d count as committed, of a leader that lost", c)
	}
	if !p.send(3, 1, 1, entriesOf(2, 4, 3), 4) {
		t.Fatal("the new leader's entries were refused")
	}
	if err := p.b.WaitRev(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	p.has("/3/2", "/3/3", "/3/4")
}

// A member that was killed between taking a snapshot over and emptying its log must not go by the entries that lost when it starts again.
func TestStaleTailIsGoneAfterTheNextStart(t *testing.T) {
	for _, kind := range []string{LogWAL, LogBoltDB} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			p := withPeers(t, func(c *Config) { c.Dir, c.Log = dir, kind })
			stuck := errors.New("killed before")
			p.b.disk.LogStore = unemptied{p.b.disk.LogStore, stuck}
			if !p.send(2, 1, 1, entriesOf(2, 10, 2), 1) {
				t.Fatal("the first entries were refused")
			}
			p.install(3, 5)
			if err := p.b.Close(); err != nil && !errors.Is(err, stuck) {
				t.Fatal(err)
			}
			p = withPeers(t, func(c *Config) { c.Dir, c.Log = dir, kind })
			if last := p.b.raft.LastIndex(); last != 5 {
				t.Errorf("its log ends at %d, with entries that lost; the snapshot at 5", last)
			}
			if !p.send(3, 5, 3, entriesOf(6, 8, 3), 8) {
				t.Fatal("what follows the snapshot is refused")
			}
			if err := p.b.WaitRev(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
			p.has("/3/2", "/3/3", "/3/4", "/3/5", "/3/6", "/3/7", "/3/8")
		})
	}
}

// unemptied is a log that is not emptied.
type unemptied struct {
	raft.LogStore
	err error
}

// DeleteRange implements raft.LogStore.
func (u unemptied) DeleteRange(uint64, uint64) error { return u.err }

// A full disk between cutting off a tail that lost and storing what takes its place leaves a member that goes on when there is room.
func TestFullDiskBehindACutTail(t *testing.T) {
	p := withPeers(t, func(c *Config) { c.Dir = t.TempDir() })
	if !p.send(2, 1, 1, entriesOf(2, 10, 2), 1) {
		t.Fatal("the first entries were refused")
	}
	under := p.b.disk.LogStore
	p.b.disk.LogStore = unstored{under}
	if p.send(3, 4, 2, entriesOf(5, 7, 3), 1) {
		t.Fatal("entries that were not stored were acknowledged")
	}
	p.b.disk.LogStore = under
	if !p.send(3, 4, 2, entriesOf(5, 7, 3), 7) {
		t.Fatal("with room again the entries are refused")
	}
	if err := p.b.WaitRev(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	p.has("/2/2", "/2/3", "/2/4", "/3/5", "/3/6", "/3/7")
}

// unstored is a log for which there is no room.
type unstored struct{ raft.LogStore }

// StoreLogs implements raft.LogStore.
func (unstored) StoreLogs([]*raft.Log) error { return wal.ErrNoSpace }
