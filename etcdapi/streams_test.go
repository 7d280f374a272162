package etcdapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"reconcile/raftstore"
)

// TestStreamsOfSeveralMembers plays random courses of what etcd's judge looks for in watches: several watches on each stream, of keys, prefixes and all, from
// the past, now and the future, with progress, filters, previous values and fragments; streams that break off and go on at another member, which may
// be cut off from the others and behind; entries of several revisions, and revisions of several keys and megabytes; compactions. Every watch must tell what
// happened, once, in order, a revision in one piece, and never a progress before what it or its client has heard; and what it is not told, says so.
//
// STREAMS_SEED repeats what a course draws; goroutines run as they like in any case.
func TestStreamsOfSeveralMembers(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("STREAMS_SEED"), 10, 64); err == nil {
		seed = s
	}
	var all counts
	for course := range uint64(6) {
		t.Run(fmt.Sprintf("STREAMS_SEED=%d", seed+course), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t, seed+course)
				f.play(400)
				all.add(f.responses)
			})
		})
	}
	if all.events < 300 || all.progress < 60 || all.resumed < 24 {
		t.Errorf("%+v: this proves little", all)
	}
}

// farm is three members, what was written, and the clients' streams.
type farm struct {
	t          *testing.T
	r          *rand.Rand
	transports []*raft.InmemTransport
	stores     []*raftstore.Store
	servers    []*Server
	wg         sync.WaitGroup // of streams

	mu        sync.Mutex // of what follows: streams' goroutines tell followers what they are sent
	happened  []happening
	now       map[string]keyState
	compacted uint64
	all       []*follower
	streams   []*farmStream
	responses counts
}

// counts are what the streams' clients were told, and what they did.
type counts struct{ events, progress, fragments, compacted, resumed, cancelled int }

func (n *counts) add(o counts) {
	n.events, n.progress, n.fragments, n.compacted = n.events+o.events, n.progress+o.progress, n.fragments+o.fragments, n.compacted+o.compacted
	n.resumed, n.cancelled = n.resumed+o.resumed, n.cancelled+o.cancelled
}

// happening is an event as it was written.
type happening struct {
	rev   uint64
	key   string
	value string // "" for a deletion
	state keyState
	prev  keyState
}

type keyState struct {
	value        string
	create, mod  uint64
	version      uint64
	wasThere     bool
	deletedEvent bool
}

func newFarm(t *testing.T, seed uint64) *farm {
	f := &farm{t: t, r: rand.New(rand.NewPCG(seed, 0)), now: map[string]keyState{}}
	var members []raftstore.Server
	for i := range 3 {
		id := fmt.Sprint("m", i)
		_, transport := raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 200*time.Millisecond)
		f.transports = append(f.transports, transport)
		members = append(members, raftstore.Server{ID: id, Address: id, Voter: true})
	}
	f.join()
	for i, m := range members {
		s, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: m.ID, ClusterID: "farm", Bootstrap: true, Servers: members, Transport: f.transports[i],
			SnapshotEntries: 20, TrailingEntries: 5, SnapshotInterval: time.Second, HistoryEvents: 64,
			Fetch: func(_ context.Context, _ raftstore.Server, digest string) ([]byte, error) {
				for _, other := range f.stores {
					if b, err := other.ServeBlob(digest); err == nil {
						return b, nil
					}
				}
				return nil, io.EOF
			}})
		if err != nil {
			t.Fatal(err)
		}
		f.stores = append(f.stores, s)
		server := &Server{cfg: Config{Store: s, ProgressEvery: 400 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}}
		server.life, server.end = context.WithCancel(context.Background())
		f.servers = append(f.servers, server)
	}
	return f
}

func (f *farm) join() {
	for i, a := range f.transports {
		for j, b := range f.transports {
			if i != j {
				a.Connect(b.LocalAddr(), b)
			}
		}
	}
}

// lead waits for a leader.
func (f *farm) lead() *raftstore.Store {
	f.t.Helper()
	for range 1000 {
		for _, s := range f.stores {
			if s.Leader().Self && s.Barrier(f.t.Context()) == nil {
				return s
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.t.Fatal("no leader")
	return nil
}

func (f *farm) play(steps int) {
	defer f.close()
	f.write()
	for range steps {
		switch n := f.r.IntN(100); {
		case n < 40:
			f.write()
		case n < 50:
			f.open()
		case n < 62:
			f.ask()
		case n < 74:
			f.move()
		case n < 78:
			f.cancel()
		case n < 82:
			f.compact()
		case n < 86:
			f.isolate()
		case n < 90:
			f.join()
		default:
			time.Sleep(time.Duration(f.r.IntN(700)) * time.Millisecond)
		}
		if f.r.IntN(3) > 0 { // else what was begun is not finished before the next step
			synctest.Wait()
		}
		if f.t.Failed() {
			return
		}
	}
	f.join()
	f.finish()
}

// isolate cuts one follower off.
func (f *farm) isolate() {
	f.join()
	lead := f.lead()
	i := f.r.IntN(3)
	if f.stores[i] == lead {
		i = (i + 1) % 3
	}
	f.transports[i].DisconnectAll()
	for _, other := range f.transports {
		other.Disconnect(f.transports[i].LocalAddr())
	}
}

// write writes an entry of some revisions.
func (f *farm) write() {
	lead := f.lead()
	rev := lead.View().Rev()
	e := raftstore.Entry{Base: rev, Time: time.Now().UnixNano()}
	f.mu.Lock()
	keys := f.r.Perm(12)[:1+f.r.IntN(8)]
	large := f.r.IntN(40) == 0
	for i, k := range keys {
		op := raftstore.Op{Kind: raftstore.Put, Key: fmt.Sprintf("k/%d/%d", k%3, k), SameRev: i > 0 && (large || f.r.IntN(2) == 0)}
		if !op.SameRev {
			rev++
		}
		was := f.now[op.Key]
		is := keyState{wasThere: true, mod: rev, create: was.create, version: was.version + 1}
		if !was.wasThere {
			is.create, is.version = rev, 1
		}
		switch {
		case f.r.IntN(4) == 0:
			op.Kind, is = raftstore.Delete, keyState{mod: rev, deletedEvent: true}
		case large:
			op.Value = bytes.Repeat([]byte{byte('a' + k)}, 600<<10)
		default:
			op.Value = fmt.Appendf(nil, "%d.%d", rev, k)
		}
		is.value = string(op.Value)
		e.Ops = append(e.Ops, op)
		if is.wasThere || was.wasThere {
			f.happened = append(f.happened, happening{rev: rev, key: op.Key, value: is.value, state: is, prev: was})
		}
		if f.now[op.Key] = is; !is.wasThere {
			delete(f.now, op.Key)
		}
	}
	f.mu.Unlock() // streams may tell of it before the proposal returns
	if out, err := lead.Propose(f.t.Context(), e); err != nil || out.Last != rev {
		f.t.Fatalf("write up to revision %d: %+v, %v", rev, out, err)
	}
}

// open begins a stream on a member with some watches.
func (f *farm) open() {
	if len(f.streams) == 6 {
		return
	}
	st := f.stream(f.r.IntN(3))
	for range 1 + f.r.IntN(5) {
		w := &follower{f: f, key: fmt.Sprintf("k/%d/", f.r.IntN(3)), prefix: true}
		switch f.r.IntN(4) {
		case 0:
			w.key = "k/"
		case 1:
			k := f.r.IntN(12)
			w.key, w.prefix = fmt.Sprintf("k/%d/%d", k%3, k), false
		}
		head := f.stores[0].View().Rev()
		switch f.r.IntN(4) {
		case 0:
			w.next = 0 // from now on
		case 1:
			w.next = head + uint64(f.r.IntN(6))
		default:
			w.next = max(1, head-min(head, uint64(f.r.IntN(60))))
		}
		w.first = w.next
		w.prevKV, w.fragment, w.notify = f.r.IntN(2) == 0, f.r.IntN(2) == 0, f.r.IntN(2) == 0
		w.noDelete = f.r.IntN(5) == 0
		f.mu.Lock()
		f.all = append(f.all, w)
		f.mu.Unlock()
		st.begin(w)
	}
}

func (f *farm) some() *farmStream {
	if len(f.streams) == 0 {
		return nil
	}
	return f.streams[f.r.IntN(len(f.streams))]
}

// ask asks for the progress of all of a stream's watches.
func (f *farm) ask() {
	if st := f.some(); st != nil {
		st.in <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	}
}

// move breaks a stream off, and goes on with its watches at any member.
func (f *farm) move() {
	old := f.some()
	if old == nil {
		return
	}
	watches := old.end()
	st := f.stream(f.r.IntN(3))
	for _, w := range watches {
		f.responses.resumed++
		st.begin(w)
	}
}

// cancel ends a watch, and goes on with it under a new ID on the same stream.
func (f *farm) cancel() {
	st := f.some()
	if st == nil {
		return
	}
	f.mu.Lock()
	var id int64
	for id = range st.watches {
		break
	}
	w := st.watches[id]
	f.mu.Unlock()
	if w == nil {
		return
	}
	st.in <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	synctest.Wait()
	f.mu.Lock()
	_, still := st.watches[id]
	f.mu.Unlock()
	if still {
		f.t.Errorf("the cancelling of watch %d was not answered", id)
		return
	}
	f.responses.cancelled++
	st.begin(w)
}

func (f *farm) compact() {
	lead := f.lead()
	rev := lead.View().Rev()
	to := rev - min(rev-1, uint64(f.r.IntN(40)))
	f.mu.Lock()
	was := f.compacted
	if to <= was {
		f.mu.Unlock()
		return
	}
	f.compacted = to
	f.mu.Unlock()
	if err := lead.Compact(f.t.Context(), to); err != nil {
		f.t.Fatal(err)
	}
}

// finish waits until every watch has told all there is.
func (f *farm) finish() {
	head := f.lead().View().Rev()
	for range 600 {
		done := true
		for _, st := range f.streams {
			f.mu.Lock()
			for _, w := range st.watches {
				done = done && w.next > head
			}
			f.mu.Unlock()
			st.in <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		}
		if done {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	open := map[*follower]bool{}
	for _, st := range f.streams {
		for _, w := range st.watches {
			open[w] = true
		}
	}
	for _, w := range f.all {
		w.check(open[w], head)
	}
	f.t.Logf("revision %d, compacted to %d, %d watches: %+v", head, f.compacted, len(f.all), f.responses)
}

func (f *farm) close() {
	for _, st := range slices.Clone(f.streams) {
		st.end()
	}
	for i, s := range f.stores {
		f.servers[i].end()
		if err := s.Close(); err != nil {
			f.t.Error(err)
		}
	}
	f.wg.Wait()
}

// farmStream is a client's stream: Recv gives what the client asks, Send what it is told.
type farmStream struct {
	pb.Watch_WatchServer
	f       *farm
	member  int
	ctx     context.Context
	cut     context.CancelFunc
	in      chan *pb.WatchRequest
	ended   chan struct{}
	nextID  int64
	watches map[int64]*follower // under farm.mu
}

func (f *farm) stream(member int) *farmStream {
	st := &farmStream{f: f, member: member, in: make(chan *pb.WatchRequest, 64), ended: make(chan struct{}), nextID: 1, watches: map[int64]*follower{}}
	st.ctx, st.cut = context.WithCancel(context.Background())
	f.streams = append(f.streams, st)
	s := f.servers[member]
	ws := &watchStream{s: s, c: client{masters: true}, stream: st, ctx: st.ctx, signal: make(chan struct{}, 1), requests: make(chan *pb.WatchRequest, maxRequests), watches: map[int64]*watch{}}
	ws.group = s.cfg.Store.WatchGroup(ws.wake)
	f.wg.Go(ws.receive)
	f.wg.Go(func() {
		defer close(st.ended)
		defer ws.stop()
		if err := ws.serve(); err != nil && st.ctx.Err() == nil {
			f.t.Errorf("a stream ended with %v", err)
		}
	})
	return st
}

// end breaks the stream off, and returns its watches.
func (st *farmStream) end() (watches []*follower) {
	st.cut()
	<-st.ended
	f := st.f
	f.streams = slices.DeleteFunc(f.streams, func(o *farmStream) bool { return o == st })
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range st.watches {
		watches = append(watches, w)
	}
	slices.SortFunc(watches, func(a, b *follower) int { return a.index() - b.index() })
	return watches
}

// begin makes a watch on the stream, or goes on with one.
func (st *farmStream) begin(w *follower) {
	w.f.mu.Lock()
	id := st.nextID
	st.nextID++
	w.parts = nil
	st.watches[id] = w
	r := &pb.WatchCreateRequest{WatchId: id, Key: []byte(w.key), StartRevision: int64(w.next), PrevKv: w.prevKV, Fragment: w.fragment, ProgressNotify: w.notify}
	if w.prefix {
		r.RangeEnd = []byte(w.key)
		r.RangeEnd[len(r.RangeEnd)-1]++
	}
	if w.noDelete {
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
	}
	w.f.mu.Unlock()
	st.in <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

// Context implements grpc.ServerStream.
func (st *farmStream) Context() context.Context { return st.ctx }

// Recv implements pb.Watch_WatchServer.
func (st *farmStream) Recv() (*pb.WatchRequest, error) {
	select {
	case r := <-st.in:
		return r, nil
	case <-st.ctx.Done():
		return nil, io.EOF
	}
}

// Send implements pb.Watch_WatchServer.
func (st *farmStream) Send(r *pb.WatchResponse) error { return st.SendMsg(r) }

// SendMsg implements grpc.ServerStream.
func (st *farmStream) SendMsg(m any) error {
	if st.ctx.Err() != nil {
		return st.ctx.Err()
	}
	r, whole := m.(*pb.WatchResponse)
	if !whole {
		r = &pb.WatchResponse{}
		if err := proto.Unmarshal(mem.BufferSlice(m.(frame)).Materialize(), r); err != nil {
			st.f.t.Error(err)
			return err
		}
	}
	st.f.mu.Lock()
	defer st.f.mu.Unlock()
	st.told(r)
	return nil
}

// told is what a client makes of a response.
func (st *farmStream) told(r *pb.WatchResponse) {
	f, rev := st.f, uint64(r.Header.Revision)
	if r.WatchId == noWatch {
		f.responses.progress++
		for _, w := range st.watches {
			w.progress(rev, st.member)
		}
		return
	}
	w := st.watches[r.WatchId]
	switch {
	case w == nil:
		f.t.Errorf("member %d answers for watch %d, which there is not: %v", st.member, r.WatchId, r)
	case r.Canceled:
		delete(st.watches, r.WatchId)
		if r.CompactRevision > 0 {
			w.lost(uint64(r.CompactRevision))
		}
	case r.Created:
		if w.next == 0 {
			w.next, w.first = rev+1, rev+1
		}
	case len(r.Events) == 0 && !r.Fragment:
		f.responses.progress++
		w.progress(rev, st.member)
	default:
		f.responses.events += len(r.Events)
		w.parts = append(w.parts, r.Events...)
		if r.Fragment {
			f.responses.fragments++
			if !w.fragment {
				f.t.Errorf("a watch that allows no fragments is sent one")
			}
			return
		}
		w.hear(rev, st.member)
	}
}

// follower is a watch as its client sees it, over all streams. Under farm.mu.
type follower struct {
	f                                  *farm
	key                                string
	prefix                             bool
	prevKV, fragment, notify, noDelete bool
	// first is the first revision that it is to tell of, next the first that it has not been told of; 0: from now on.
	first, next uint64
	parts       []*mvccpb.Event // of a response that is not whole yet
	got         []*mvccpb.Event
	gaps        [][2]uint64 // revisions that a compaction took: from, up to but without
}

func (w *follower) index() int { return slices.Index(w.f.all, w) }

func (w *follower) progress(rev uint64, member int) {
	if rev+1 < w.next {
		w.f.t.Errorf("member %d tells a watch of %s that it has come to %d; its client was told %d", member, w.key, rev, w.next-1)
		return
	}
	if len(w.parts) > 0 {
		w.f.t.Errorf("member %d tells progress between the fragments of a response", member)
	}
	w.next = rev + 1
}

// hear takes the events of a whole response.
func (w *follower) hear(rev uint64, member int) {
	events := w.parts
	w.parts = nil
	for i, e := range events {
		mod := uint64(e.Kv.ModRevision)
		if mod < w.next || mod > rev || i > 0 && mod < uint64(events[i-1].Kv.ModRevision) {
			w.f.t.Errorf("member %d sends a watch of %s the event of %d, in a response of %d events up to %d; its client has come to %d", member, w.key, mod, len(events), rev, w.next-1)
			return
		}
	}
	w.got = append(w.got, events...)
	// The header is no promise of completeness; the last event is, for those of a revision come together.
	w.next = uint64(events[len(events)-1].Kv.ModRevision) + 1
}

// lost is a watch that a compaction has overtaken: its client begins again where the history does.
func (w *follower) lost(floor uint64) {
	w.f.responses.compacted++
	if floor > w.f.compacted || w.next >= floor {
		w.f.t.Errorf("a watch of %s from %d on was cancelled because of a compaction to %d; there was one to %d", w.key, w.next, floor, w.f.compacted)
	}
	w.gaps = append(w.gaps, [2]uint64{w.next, floor})
	w.next = floor
}

// check compares what a watch has told with what has happened, up to head if it is still there.
func (w *follower) check(open bool, head uint64) {
	t := w.f.t
	if open && w.next <= head {
		t.Errorf("a watch of %s has come to %d of %d", w.key, w.next-1, head)
	}
	var want []happening
	for _, h := range w.f.happened {
		in := h.key == w.key || w.prefix && len(h.key) > len(w.key) && h.key[:len(w.key)] == w.key
		gap := slices.ContainsFunc(w.gaps, func(g [2]uint64) bool { return g[0] <= h.rev && h.rev < g[1] })
		if in && !gap && w.first > 0 && h.rev >= w.first && h.rev < w.next && (!w.noDelete || !h.state.deletedEvent) {
			want = append(want, h)
		}
	}
	for i := range max(len(want), len(w.got)) {
		switch {
		case i >= len(want):
			t.Fatalf("a watch of %s from %d on told %v, which did not happen", w.key, w.first, w.got[i].Kv.ModRevision)
		case i >= len(w.got):
			t.Fatalf("a watch of %s from %d on, with %v compacted, left out %s at %d, and said that it had come to %d", w.key, w.first, w.gaps, want[i].key, want[i].rev, w.next-1)
		}
		if why := differ(want[i], w.got[i], w.prevKV, w.f.compacted); why != "" {
			t.Fatalf("a watch of %s from %d on, with %v compacted, was to tell %s at %d as its event %d, and told %s at %d: %s", w.key, w.first, w.gaps, want[i].key, want[i].rev, i,
				w.got[i].Kv.Key, w.got[i].Kv.ModRevision, why)
		}
	}
}

// differ says what is not right of an event.
func differ(h happening, e *mvccpb.Event, prevKV bool, compacted uint64) string {
	kv := e.Kv
	switch {
	case uint64(kv.ModRevision) != h.rev || string(kv.Key) != h.key:
		return "another event"
	case h.state.deletedEvent != (e.Type == mvccpb.Event_DELETE):
		return "its type"
	case !h.state.deletedEvent && (string(kv.Value) != h.value || uint64(kv.CreateRevision) != h.state.create || uint64(kv.Version) != h.state.version):
		return fmt.Sprintf("its value, creation %d (want %d) or version %d (want %d)", kv.CreateRevision, h.state.create, kv.Version, h.state.version)
	case !prevKV && e.PrevKv != nil:
		return "a previous value that nobody asked for"
	case prevKV && h.prev.wasThere && e.PrevKv == nil && h.rev > compacted:
		return "no previous value"
	case prevKV && e.PrevKv != nil && (!h.prev.wasThere || string(e.PrevKv.Value) != h.prev.value || uint64(e.PrevKv.ModRevision) != h.prev.mod):
		return "another previous value"
	}
	return ""
}
