package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
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
	ctx, cancel := context.WithCancel(stream.Context())
	st := &watchStream{s: w.s, c: c, stream: stream, ctx: ctx, progress: make(chan struct{}, 1), watches: map[int64]*watch{}}
	err = st.receive()
	cancel()
	st.wg.Wait()
	return err
}

// watchStream is one client's stream. A watch is a place in the store's history with a goroutine that sends what comes; a slow client holds up
// its own goroutines only, costs one response, and is cut off after Config.SendTimeout (senders).
type watchStream struct {
	s      *Server
	c      client
	stream pb.Watch_WatchServer
	ctx    context.Context
	wg     sync.WaitGroup
	// progress holds a token when a progress request waits for its answer. Several share one. answering tells that somebody answers.
	progress  chan struct{}
	answering bool

	// sending guards the stream and keeps the order of responses.
	sending sync.Mutex

	mu      sync.Mutex
	watches map[int64]*watch
	nextID  int64
	ticking bool
}

// watch is one watch of a stream.
type watch struct {
	id   int64
	st   *watchStream
	span raftstore.Span
	// mixed tells that the span holds keys which clients do not see.
	mixed  bool
	req    *pb.WatchCreateRequest
	cancel context.CancelFunc

	// poke makes the watch say how far it has come.
	mu   sync.Mutex
	now  context.Context
	poke context.CancelFunc
	asks []chan uint64
	// quiet tells that nothing was sent since the last progress notification.
	quiet bool
}

// receive takes the client's requests until the stream ends.
func (st *watchStream) receive() error {
	for {
		r, err := st.stream.Recv()
		if err != nil {
			return nil // the client has ended the stream, its connection is gone, or the server ends it
		}
		if err := st.request(r); err != nil {
			return err
		}
	}
}

// fail ends the stream.
func (st *watchStream) fail(err error) { endStream(st.ctx, err) }

func (st *watchStream) request(r *pb.WatchRequest) error {
	switch r := r.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		if r.CreateRequest != nil {
			return st.create(r.CreateRequest)
		}
	case *pb.WatchRequest_CancelRequest:
		if r.CancelRequest != nil {
			return st.end(r.CancelRequest.WatchId)
		}
	case *pb.WatchRequest_ProgressRequest:
		if r.ProgressRequest != nil {
			st.askProgress()
		}
	}
	return nil
}

func (st *watchStream) send(r *pb.WatchResponse) error {
	st.sending.Lock()
	defer st.sending.Unlock()
	return st.stream.Send(r)
}

// refuse answers a request that makes no watch.
func (st *watchStream) refuse(reason string) error {
	return st.send(&pb.WatchResponse{Header: st.s.header(st.s.cfg.Store.View().Rev()), WatchId: noWatch, Created: true, Canceled: true, CancelReason: reason})
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
	w := &watch{st: st, req: r, span: sp, mixed: !slices.Equal(shown(sp), []raftstore.Span{sp}), quiet: true}
	st.mu.Lock()
	switch _, taken := st.watches[r.WatchId]; {
	case r.WatchId == 0:
		for st.watches[st.nextID] != nil {
			st.nextID++
		}
		w.id = st.nextID
		st.nextID++
	case taken:
		st.mu.Unlock()
		return st.refuse("mvcc: duplicate watch ID provided on the WatchStream")
	default:
		w.id = r.WatchId
	}
	st.watches[w.id] = w
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(st.ctx)
	st.mu.Unlock()
	// A watch from now on begins behind what the answer's header says.
	rev := st.s.cfg.Store.View().Rev()
	if err := st.send(&pb.WatchResponse{Header: st.s.header(rev), WatchId: w.id, Created: true}); err != nil {
		return err
	}
	after := rev
	if r.StartRevision > 0 {
		after = uint64(r.StartRevision) - 1
	}
	st.wg.Go(func() { w.run(ctx, after) })
	if r.ProgressNotify {
		st.tick()
	}
	return nil
}

// end cancels a watch at the client's wish.
func (st *watchStream) end(id int64) error {
	st.mu.Lock()
	w := st.watches[id]
	delete(st.watches, id)
	st.mu.Unlock()
	if w == nil {
		return nil
	}
	w.cancel()
	// Whoever sends for it now has the lock; after it nothing more comes.
	return st.send(&pb.WatchResponse{Header: st.s.header(st.s.cfg.Store.View().Rev()), WatchId: id, Canceled: true})
}

// run follows the history until ctx ends.
func (w *watch) run(ctx context.Context, after uint64) {
	defer w.cancel()
	err := w.follow(ctx, after)
	w.st.mu.Lock()
	if w.st.watches[w.id] == w {
		delete(w.st.watches, w.id)
	}
	w.answerAsks(noAnswer)
	w.st.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if !errors.Is(err, raftstore.ErrCompacted) {
		w.st.fail(rpctypes.ErrGRPCStopped)
		return
	}
	v := w.st.s.cfg.Store.View()
	r := &pb.WatchResponse{Header: w.st.s.header(v.Rev()), WatchId: w.id, Canceled: true, CompactRevision: int64(v.Floor()), CancelReason: rpctypes.ErrCompacted.Error()}
	if err := w.st.send(r); err != nil {
		w.st.fail(err)
	}
}

// follow sends events until ctx ends or there is an error.
func (w *watch) follow(ctx context.Context, after uint64) error {
	src, err := w.st.s.cfg.Store.WatchSpan(w.span, after)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		turn := w.turn(ctx)
		events, upTo, err := src.Next(turn)
		if err != nil && turn.Err() == nil {
			return err
		}
		if len(events) > 0 {
			if err := w.deliver(ctx, events, upTo); err != nil {
				w.st.fail(err)
				return err
			}
		} else if turn.Err() != nil {
			w.answerAsks(upTo)
		}
	}
	return ctx.Err()
}

// turn is ctx until somebody asks how far the watch has come.
func (w *watch) turn(ctx context.Context) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now == nil || w.now.Err() != nil {
		w.now, w.poke = context.WithCancel(ctx)
	}
	if len(w.asks) > 0 {
		w.poke()
	}
	return w.now
}

// noAnswer is the answer of a watch that has ended.
const noAnswer = ^uint64(0)

// ask makes the watch tell the revision up to which it has sent everything. The stream's watches must be locked: one that is still among them
// answers.
func (w *watch) ask() <-chan uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan uint64, 1)
	w.asks = append(w.asks, c)
	if w.poke != nil {
		w.poke()
	}
	return c
}

func (w *watch) answerAsks(rev uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.asks {
		c <- rev
	}
	w.asks = nil
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
func (w *watch) deliver(ctx context.Context, events []*raftstore.Event, upTo uint64) error {
	if len(w.req.Filters) > 0 || w.mixed || mutantLostEvent {
		events = slices.DeleteFunc(slices.Clone(events), func(e *raftstore.Event) bool { return !w.wants(e) })
		if len(events) == 0 {
			return nil
		}
	}
	w.mu.Lock()
	w.quiet = false
	w.mu.Unlock()
	w.st.sending.Lock()
	defer w.st.sending.Unlock()
	for len(events) > 0 {
		if ctx.Err() != nil {
			return nil // cancelled: the client has been told, or is gone
		}
		part := events[:w.fit(events)]
		to := upTo
		if len(part) < len(events) {
			to = part[len(part)-1].Rev
		}
		f, n := w.response(to, part)
		events = events[n:]
		if err := w.st.stream.SendMsg(f); err != nil {
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
func (w *watch) response(upTo uint64, events []*raftstore.Event) (frame, int) {
	if !w.req.PrevKv {
		size := 0
		for _, e := range events {
			if size += 6 + len(e.Encoded(eventBody)); size > copyBytes {
				break
			}
		}
		if size <= copyBytes {
			b := w.head(make([]byte, 0, 64+size), upTo)
			for _, e := range events {
				b = appendBytes(b, fieldEvents, e.Encoded(eventBody))
			}
			return frame{mem.SliceBuffer(b)}, len(events)
		}
	}
	// Each event takes a tag and a length of at most five bytes.
	glue := w.head(make([]byte, 0, 64+6*len(events)), upTo)
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

// head appends a response's header and the watch's ID.
func (w *watch) head(b []byte, upTo uint64) []byte {
	s := w.st.s
	b = appendHeaderFields(b, s.clusterID, s.memberID, upTo, s.term.Load())
	return appendInt(b, fieldWatchID, uint64(w.id))
}

// askProgress has a progress request answered, beside the others.
func (st *watchStream) askProgress() {
	select {
	case st.progress <- struct{}{}:
	default: // the next answer is that of this request too
	}
	if st.answering {
		return
	}
	st.answering = true
	st.wg.Go(func() {
		for {
			select {
			case <-st.progress:
				st.progressAll()
			case <-st.ctx.Done():
				return
			}
		}
	})
}

// progressAll answers the progress requests that wait: the revision up to which every watch of the stream has sent everything.
func (st *watchStream) progressAll() {
	rev := st.s.cfg.Store.View().Rev()
	st.mu.Lock()
	var asked []<-chan uint64
	for _, w := range st.watches {
		asked = append(asked, w.ask())
	}
	st.mu.Unlock()
	for _, c := range asked {
		select {
		case r := <-c:
			rev = min(rev, r)
		case <-st.ctx.Done():
			return
		}
	}
	if err := st.send(&pb.WatchResponse{Header: st.s.header(rev), WatchId: noWatch}); err != nil {
		st.fail(err)
	}
}

// tick starts the progress notifications of a stream.
func (st *watchStream) tick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ticking {
		return
	}
	st.ticking = true
	st.wg.Go(func() {
		for {
			every := st.s.cfg.ProgressEvery
			select {
			case <-time.After(every + rand.N(every/10+1)): // so that not all streams are told at once
			case <-st.ctx.Done():
				return
			}
			if err := st.notify(); err != nil {
				st.fail(err)
				return
			}
		}
	})
}

// notify tells the watches that asked for it, and sent nothing since, how far they have come.
func (st *watchStream) notify() error {
	st.mu.Lock()
	asked := map[int64]<-chan uint64{}
	for id, w := range st.watches {
		if !w.req.ProgressNotify {
			continue
		}
		w.mu.Lock()
		quiet := w.quiet
		w.quiet = true
		w.mu.Unlock()
		if quiet {
			asked[id] = w.ask()
		}
	}
	st.mu.Unlock()
	for id, c := range asked {
		select {
		case rev := <-c:
			if rev == noAnswer {
				continue
			}
			if err := st.send(&pb.WatchResponse{Header: st.s.header(rev), WatchId: id}); err != nil {
				return fmt.Errorf("send a progress notification: %w", err)
			}
		case <-st.ctx.Done():
			return nil
		}
	}
	return nil
}
