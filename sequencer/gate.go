package sequencer

import (
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// gate bounds what a server holds at once, by number and by bytes. It never blocks: who may not enter is told to come again.
type gate struct {
	most      int
	mostBytes int64

	mu    sync.Mutex
	count int
	bytes int64
}

// enter lets a request of so many bytes in, and returns what lets it out again, to be called once. Alone it may be larger than the
// gate. The error is a TooManyRequests with a Retry-After: nothing was changed.
func (g *gate) enter(bytes int64) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count >= g.most || g.count > 0 && g.bytes+bytes > g.mostBytes {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d writes of %d KiB are waiting already; nothing was changed, try again", g.count, g.bytes>>10), 1)
	}
	g.count++
	g.bytes += bytes
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.count--
		g.bytes -= bytes
	}, nil
}

// perOp is what an operation takes besides its object.
const perOp = 256

// weight is about how many bytes a request takes while it waits.
func weight(req *Request) int64 {
	n := int64(perOp)
	for i := range req.Ops {
		n += perOp + objectWeight(req.Ops[i].Object)
	}
	for _, w := range req.Raw {
		n += int64(len(w.Key) + len(w.Value) + len(w.Expect))
	}
	return n
}

// objectWeight is the size of an object's encoding.
func objectWeight(o object.Object) int64 {
	if o == nil {
		return 0
	}
	if s, ok := o.(interface{ Size() int }); ok {
		return int64(s.Size())
	}
	body, err := object.Encode(o) // a kind of our own: few, and small
	if err != nil {
		return 0 // it will be refused
	}
	return int64(len(body))
}
