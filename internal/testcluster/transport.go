package testcluster

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's in memory, with heartbeats handled as the one over the network does: beside raft's own loop, each on its own.
type transport struct {
	*raft.InmemTransport
	hooks
	in   chan raft.RPC
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu   sync.Mutex
	beat func(raft.RPC)
}

// hooks are called, where they are set, when a message without entries was answered by another server, and before a snapshot is sent.
type hooks struct {
	from                 string
	answered, installing func(from, to string)
}

func newTransport(addr raft.ServerAddress, timeout time.Duration, h hooks) *transport {
	_, inner := raft.NewInmemTransportWithTimeout(addr, timeout)
	t := &transport{InmemTransport: inner, in: make(chan raft.RPC), hooks: h, stop: make(chan struct{})}
	t.wg.Go(t.pump)
	return t
}

// pump keeps messages that raft's loop does not take yet, so that heartbeats pass them, as on a connection of their own.
func (t *transport) pump() {
	var queue []raft.RPC
	for {
		var out chan<- raft.RPC
		var next raft.RPC
		if len(queue) > 0 {
			out, next = t.in, queue[0]
		}
		select {
		case rpc := <-t.InmemTransport.Consumer():
			if beat := t.handler(); beat != nil && isHeartbeat(rpc) {
				t.wg.Go(func() { beat(rpc) })
			} else {
				queue = append(queue, rpc)
			}
		case out <- next:
			queue = queue[1:]
		case <-t.stop:
			return
		}
	}
}

// isHeartbeat is what the transport over the network takes for one.
func isHeartbeat(rpc raft.RPC) bool {
	m, ok := rpc.Command.(*raft.AppendEntriesRequest)
	return ok && m.Term != 0 && m.PrevLogEntry == 0 && m.PrevLogTerm == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0
}

func (t *transport) handler() func(raft.RPC) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beat
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.in }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.beat = f
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.InmemTransport.AppendEntries(id, to, args, resp)
	if err == nil && t.answered != nil && len(args.Entries) == 0 {
		t.answered(t.from, string(id))
	}
	return err
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.installing != nil {
		t.installing(t.from, string(id))
	}
	return t.InmemTransport.InstallSnapshot(id, to, args, resp, data)
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.once.Do(func() { close(t.stop) })
	t.wg.Wait()
	return t.InmemTransport.Close()
}
