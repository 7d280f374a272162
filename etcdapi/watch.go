package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/mem"

	"reconcile/raftstore"
)

// fragmentBytes is the size from which a response is cut: between two revisions, or anywhere for watches that allow it. It is what a client that
// does not read costs.
const fragmentBytes = maxRequest

// noWatch is the ID in answers to requests that made no watch, and in those about all watches of a stream.
const noWatch = -1

type watchService struct {
	pb.UnimplementedWatchServer
	s *Server
}

// Watch implements etcdserverpb.WatchServer: one stream, many watches.
func (w watchService) Watch(stream pb.Watch_WatchServer) error {
	c, err := w.s.clientOf(stream.Context())
	if err != nil {
		return err
	}
	st := &watchStream{s: w.s, c: c, stream: stream, ctx: stream.Context(), signal: make(chan struct{}, 1), requests: make(chan *pb.WatchRequest, maxRequests), watches: map[int64]*watch{}}
	st.group = w.s.cfg.Store.WatchGroup(st.wake)
	defer st.stop()
	// The server waits for it: a stream's Recv ends after its handler has returned, not before.
	w.s.wg.Go(st.receive)
	return st.serve()
}

// maxRequests is how many of a client's requests wait for their turn; the client waits with the next.
const maxRequests = 16

// watchStream is one client's stream. One goroutine answers its requests and sends what its watches find; a watch is a place in the store's
// history. A slow client holds up its own goroutine only, costs one response, and is cut off after Config.SendTimeout (senders).
type watchStream struct {
	s      *Server
	c      client
	stream pb.Watch_WatchServer
	ctx    context.Context

	// signal holds a token when there is something to look at: requests, watches that are ready, the end.
	signal   chan struct{}
	requests chan *pb.WatchRequest
	// ended tells that the stream is over, due that it is time for progress notifications.
	ended, due atomic.Bool

	// What follows is serve's.
	group   *raftstore.WatchGroup
	watches map[int64]*watch
	bySrc   map[*raftstore.Watch]*watch
	room    []*raftstore.Watch
	nextID  int64
	timer   *time.Timer
}

// watch is one watch of a stream.
type watch struct {
	id   int64
	src  *raftstore.Watch
	span raftstore.Span
	// mixed tells that the span holds keys which clients do not see.
	mixed bool
	req   *pb.WatchCreateRequest
	// quiet tells that nothing was sent since the last progress notification.
	quiet bool
	// held are events that wait, while a revision before them is told, and heldUpTo the revision up to which they are complete.
	held     []*raftstore.Event
	heldUpTo uint64
}

func (st *watchStream) wake() {
	select {
	case st.signal <- struct{}{}:
	default:
	}
}

// finish makes serve look whether the stream has ended.
func (st *watchStream) finish() {
	st.ended.Store(true)
	st.wake()
}

// receive takes the client's requests until the stream ends.
func (st *watchStream) receive() {
	for {
		r, err := st.stream.Recv()
		if err != nil {
			st.finish() // the client has ended the stream, or its connection is gone
			return
		}
		select {
		case st.requests <- r:
			st.wake()
		case <-st.ctx.Done():
			return
		}
	}
}

// serve works until the stream ends.
func (st *watchStream) serve() error {
	defer context.AfterFunc(st.ctx, st.finish)()
	defer context.AfterFunc(st.s.life, st.finish)()
	for range st.signal {
		if st.ended.Load() {
			return st.end()
		}
		for range len(st.requests) {
			if err := st.request(<-st.requests); err != nil {
				return err
			}
		}
		// Where others wait for a processor they go first, and what they write goes into the same response.
		runtime.Gosched()
		st.room = st.group.Ready(st.room)
		for _, src := range st.room {
			if err := st.advance(src); err != nil {
				return err
			}
		}
		if st.due.Swap(false) {
			if err := st.notify(); err != nil {
				return fmt.Errorf("send a progress notification: %w", err)
			}
			st.timer.Reset(st.pause())
		}
	}
	return nil
}

// end is why the stream has ended, if it was not the client who ended it.
func (st *watchStream) end() error {
	if st.s.life.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	if cause := context.Cause(st.ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func (st *watchStream) stop() {
	if st.timer != nil {
		st.timer.Stop()
	}
	for _, w := range st.watches {
		st.drop(w)
	}
}

func (st *watchStream) request(r *pb.WatchRequest) error {
	switch r := r.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		if r.CreateRequest != nil {
			return st.create(r.CreateRequest)
		}
	case *pb.WatchRequest_CancelRequest:
		if r.CancelRequest != nil {
			return st.cancel(r.CancelRequest.WatchId)
		}
	case *pb.WatchRequest_ProgressRequest:
		if r.ProgressRequest != nil {
			return st.progressAll()
		}
	}
	return nil
}

// refuse answers a request that makes no watch.
func (st *watchStream) refuse(reason string) error {
	return st.stream.Send(&pb.WatchResponse{Header: st.s.header(st.s.cfg.Store.View().Rev()), WatchId: noWatch, Created: true, Canceled: true, CancelReason: reason})
}

// create makes a watch, answers that it is there, and starts it.
func (st *watchStream) create(r *pb.WatchCreateRequest) error {
	if len(r.Key) == 0 {
		r.Key = []byte{0}
	}
	sp := spanOf(r.Key, r.RangeEnd)
	switch err := st.c.mayRead(sp); {
	case r.StartRevision < 0:
		return st.refuse(rpctypes.ErrCompacted.Error())
	case err != nil:
		return st.refuse(err.Error())
	case sp.To != "" && sp.To <= sp.From:
		return st.refuse("mvcc: watcher range is empty")
	}
	w := &watch{req: r, span: sp, mixed: !slices.Equal(shown(sp), []raftstore.Span{sp}), quiet: true}
	switch _, taken := st.watches[r.WatchId]; {
	case r.WatchId == 0:
		for st.watches[st.nextID] != nil {
			st.nextID++
		}
		w.id = st.nextID
		st.nextID++
	case taken:
		return st.refuse("mvcc: duplicate watch ID provided on the WatchStream")
	default:
		w.id = r.WatchId
	}
	// A watch from now on begins behind what the answer's header says.
	rev := st.s.cfg.Store.View().Rev()
	if err := st.stream.Send(&pb.WatchResponse{Header: st.s.header(rev), WatchId: w.id, Created: true}); err != nil {
		return err
	}
	after := rev
	if r.StartRevision > 0 {
		after = uint64(r.StartRevision) - 1
	}
	src, err := st.s.cfg.Store.WatchSpan(sp, after)
	if err != nil {
		return st.broken(w, err)
	}
	w.src = src
	st.watches[w.id] = w
	if st.bySrc == nil {
		st.bySrc = map[*raftstore.Watch]*watch{}
	}
	st.bySrc[src] = w
	st.group.Add(src)
	if r.ProgressNotify && st.timer == nil {
		st.timer = time.AfterFunc(st.pause(), func() {
			st.due.Store(true)
			st.wake()
		})
	}
	return nil
}

// pause is how long progress notifications wait: not all streams are told at once.
func (st *watchStream) pause() time.Duration {
	every := st.s.cfg.ProgressEvery
	return every + rand.N(every/10+1)
}

func (st *watchStream) drop(w *watch) {
	st.group.Remove(w.src)
	delete(st.watches, w.id)
	delete(st.bySrc, w.src)
}

// cancel ends a watch at the client's wish.
func (st *watchStream) cancel(id int64) error {
	w := st.watches[id]
	if w == nil {
		return nil
	}
	st.drop(w)
	return st.stream.Send(&pb.WatchResponse{Header: st.s.header(st.s.cfg.Store.View().Rev()), WatchId: id, Canceled: true})
}

// broken tells the client of a watch that cannot go on, if that is its own fault, and ends the stream otherwise.
func (st *watchStream) broken(w *watch, err error) error {
	if !errors.Is(err, raftstore.ErrCompacted) {
		return rpctypes.ErrGRPCStopped
	}
	v := st.s.cfg.Store.View()
	return st.stream.Send(&pb.WatchResponse{Header: st.s.header(v.Rev()), WatchId: w.id, Canceled: true, CompactRevision: int64(v.Floor()), CancelReason: rpctypes.ErrCompacted.Error()})
}

// advance sends some of what is new for a watch; if that was not all, the group names it again.
func (st *watchStream) advance(src *raftstore.Watch) error {
	w := st.bySrc[src]
	if w == nil {
		return nil // it was cancelled meanwhile
	}
	events, upTo, err := st.poll(w)
	if err != nil || len(events) == 0 {
		return err
	}
	return st.deliver(w, events, upTo)
}

// poll is some of what is new for a watch, valid until the next poll. It ends a watch that cannot go on.
func (st *watchStream) poll(w *watch) (events []*raftstore.Event, upTo uint64, err error) {
	events, upTo, err = st.group.Poll(w.src)
	if err != nil {
		st.drop(w)
		return nil, 0, st.broken(w, err)
	}
	return events, upTo, nil
}

// seen sends what there is for a watch up to a revision of the store's present, and no event behind it: those that it had to read are in w.held. It does
// not wait for the end of what comes meanwhile: while much is written there is none, and the stream's other watches and requests wait.
func (st *watchStream) seen(w *watch, to uint64) error {
	for st.watches[w.id] == w {
		if rev, ok := st.group.Seen(w.src); ok || rev >= to {
			return nil
		}
		events, upTo, err := st.poll(w)
		if err != nil {
			return err
		}
		n := len(events)
		for n > 0 && events[n-1].Rev > to {
			n--
		}
		if n < len(events) {
			w.held, w.heldUpTo, upTo = events[n:], upTo, to
		}
		if err := st.deliver(w, events[:n], upTo); err != nil {
			return err
		}
	}
	return nil
}

// release sends what seen has held back.
func (st *watchStream) release(w *watch) error {
	events := w.held
	w.held = nil
	return st.deliver(w, events, w.heldUpTo)
}

// wants tells whether the client may see an event, and the watch's filters let it through.
func (w *watch) wants(e *raftstore.Event) bool {
	if mutantLostEvent && e.Rev%100 == 99 {
		return false
	}
	if w.mixed && !visible(e.Key) {
		return false
	}
	for _, f := range w.req.Filters {
		if f == pb.WatchCreateRequest_NODELETE && e.Deleted || f == pb.WatchCreateRequest_NOPUT && !e.Deleted {
			return false
		}
	}
	return true
}

// deliver sends events in one response, or in several if they are large: those of one revision stay together, unless the client allows it.
func (st *watchStream) deliver(w *watch, events []*raftstore.Event, upTo uint64) error {
	if len(w.req.Filters) > 0 || w.mixed || mutantLostEvent {
		events = slices.DeleteFunc(slices.Clone(events), func(e *raftstore.Event) bool { return !w.wants(e) })
	}
	for len(events) > 0 {
		w.quiet = false
		part := events[:w.fit(events)]
		to := upTo
		if len(part) < len(events) {
			to = part[len(part)-1].Rev
		}
		f, n := st.response(w, to, part)
		events = events[n:]
		if err := st.stream.SendMsg(f); err != nil {
			return err
		}
	}
	return nil
}

// fit is how many of the events share a response: at least those of the first revision.
func (w *watch) fit(events []*raftstore.Event) int {
	size := 0
	for i, e := range events {
		if size >= fragmentBytes && e.Rev != events[i-1].Rev {
			return i
		}
		size += len(e.Encoded(eventBody))
		if w.req.PrevKv && e.Prev != nil {
			size += len(e.Prev.Value)
		}
	}
	return len(events)
}

// copyBytes is up to what size a response is copied into one piece: pieces cost more than copying a little.
const copyBytes = 4 << 10

// response encodes a WatchResponse of as many of the events as fit, at least one, complete up to a revision.
func (st *watchStream) response(w *watch, upTo uint64, events []*raftstore.Event) (frame, int) {
	if !w.req.PrevKv {
		size := 0
		for _, e := range events {
			if size += 6 + len(e.Encoded(eventBody)); size > copyBytes {
				break
			}
		}
		if size <= copyBytes {
			return frame{mem.SliceBuffer(st.small(w, upTo, events, size))}, len(events)
		}
	}
	// Each event takes a tag and a length of at most five bytes.
	glue := st.head(w, make([]byte, 0, 64+6*len(events)), upTo, st.s.term.Load())
	out := make(frame, 0, 2+2*len(events))
	out = append(out, mem.SliceBuffer(glue))
	size := 0
	for i, e := range events {
		if w.req.Fragment && size >= fragmentBytes {
			mark := len(glue)
			glue = appendInt(glue, fieldFragment, 1)
			return append(out, mem.SliceBuffer(glue[mark:])), i
		}
		var n int
		out, glue, n = appendEvent(out, glue, e, w.req.PrevKv)
		size += n
	}
	return out, len(events)
}

// small is a response in one piece. Streams that watch the same send the same bytes, one after the other: those of the last response are kept for the
// next one, once two have begun with the same event.
func (st *watchStream) small(w *watch, upTo uint64, events []*raftstore.Event, size int) []byte {
	last, term := st.s.last.Load(), st.s.term.Load()
	if last != nil && last.bytes != nil && last.upTo == upTo && last.term == term && last.id == w.id && slices.Equal(last.events, events) {
		return last.bytes
	}
	next := &lastResponse{upTo: upTo, id: w.id, term: term, first: events[0]}
	b := st.head(w, make([]byte, 0, 64+size), upTo, term)
	for _, e := range events {
		b = appendBytes(b, fieldEvents, e.Encoded(eventBody))
	}
	if last != nil && last.first == next.first {
		next.events, next.bytes = slices.Clone(events), b
	}
	st.s.last.Store(next)
	return b
}

// lastResponse is what a watch sent last. The bytes are kept if its first event was that of the response before, too.
type lastResponse struct {
	upTo, term uint64
	id         int64
	first      *raftstore.Event
	events     []*raftstore.Event
	bytes      []byte
}

// head appends a response's header and the watch's ID.
func (st *watchStream) head(w *watch, b []byte, upTo, term uint64) []byte {
	s := st.s
	b = appendHeaderFields(b, s.clusterID, s.memberID, upTo, term)
	return appendInt(b, fieldWatchID, uint64(w.id))
}

// ahead tells whether a watch begins behind a revision: its client was told more elsewhere, and must not be told less. A client that comes from a
// member which was faster is so.
func (w *watch) ahead(rev uint64) bool {
	return w.req.StartRevision > 0 && uint64(w.req.StartRevision)-1 > rev
}

// progressAll answers a progress request: the revision up to which every watch of the stream has sent everything, and none an event behind it. As in etcd
// the request is not answered while that cannot be told, here for watches of what is to come: clients ask again.
func (st *watchStream) progressAll() error {
	rev := st.s.cfg.Store.View().Rev()
	for _, w := range st.watches {
		if w.ahead(rev) {
			return nil
		}
	}
	for _, w := range st.watches {
		if err := st.seen(w, rev); err != nil {
			return err
		}
	}
	if err := st.stream.Send(&pb.WatchResponse{Header: st.s.header(rev), WatchId: noWatch}); err != nil {
		return err
	}
	for _, w := range st.watches {
		if err := st.release(w); err != nil {
			return err
		}
	}
	return nil
}

// notify tells the watches that asked for it, and sent nothing since, how far they have come.
func (st *watchStream) notify() error {
	now := st.s.cfg.Store.View().Rev()
	for _, w := range st.watches {
		if !w.req.ProgressNotify || w.ahead(now) {
			continue
		}
		quiet := w.quiet
		w.quiet = true
		if !quiet {
			continue
		}
		if err := st.seen(w, now); err != nil {
			return err
		}
		if st.watches[w.id] != w {
			continue
		}
		if err := st.stream.Send(&pb.WatchResponse{Header: st.s.header(now), WatchId: w.id}); err != nil {
			return err
		}
		if err := st.release(w); err != nil {
			return err
		}
	}
	return nil
}
