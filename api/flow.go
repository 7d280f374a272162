package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"reconcile/authz"
)

// The bounds of what is served at once. Requests beyond them wait in two queues, the system's first; who finds the queue full, or
// waits too long, is told to come again (429).
const (
	defaultRequests = 400
	// queuedPerSlot is how many requests may wait for each that is served.
	queuedPerSlot = 2
	queueLimit    = 10 * time.Second
	// systemShare is the part of the slots that only the system's requests may take, as one in so many.
	systemShare = 5
	// objectsPerSlot is how many objects a list may touch for each slot that it takes, as in Kubernetes' priority and fairness; heaviestShare is
	// the part of the slots that the longest list takes, as one in so many.
	objectsPerSlot = 100
	heaviestShare  = 20
	// watchRate is how many watches may begin in a second, watchBurst how many at once, in each class; a watch that begins with the present
	// objects counts as many as a list of them takes slots. They are not held in slots: a slow reader would keep one for minutes.
	watchRate  = 500
	watchBurst = 2000
)

// class is the urgency of a request; the smaller, the more urgent.
type class int

const (
	classSystem class = iota // agents, the cluster's own accounts
	classOthers
	classes
)

// flow hands out slots. It is safe for use by several goroutines.
type flow struct {
	slots int
	begun [classes]*rate.Limiter

	mu      sync.Mutex
	busy    int
	waiting [classes][]turn
}

// turn is a request that waits for its slots.
type turn struct {
	come   chan struct{}
	weight int
}

func newFlow(slots int) *flow {
	f := &flow{slots: slots}
	for c := range f.begun {
		f.begun[c] = rate.NewLimiter(watchRate, watchBurst)
	}
	return f
}

// weight is how many slots a request takes that touches so many objects.
func (f *flow) weight(objects int) int { return max(1, min(objects/objectsPerSlot, f.heaviest())) }

// heaviest is the most slots that one request takes: whoever waits gets them once the others are done.
func (f *flow) heaviest() int { return max(1, f.slots/heaviestShare) }

// may tells whether one more request of a class may be served now.
func (f *flow) may(c class, weight int) bool {
	if c == classSystem {
		return f.busy+weight <= f.slots
	}
	return f.busy+weight <= f.slots-f.slots/systemShare
}

// enter waits for the slots that a request takes; leave must be called with them if it answers true.
func (f *flow) enter(ctx context.Context, c class, weight int) bool {
	f.mu.Lock()
	if f.first(c) && f.may(c, weight) {
		f.busy += weight
		f.mu.Unlock()
		return true
	}
	if len(f.waiting[c]) >= f.slots*queuedPerSlot {
		f.mu.Unlock()
		return false
	}
	own := turn{make(chan struct{}), weight}
	f.waiting[c] = append(f.waiting[c], own)
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, queueLimit)
	defer cancel()
	select {
	case <-own.come:
		return true
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.waiting[c], own); i >= 0 {
		f.waiting[c] = slices.Delete(f.waiting[c], i, i+1)
		f.wake() // those behind it may need fewer slots
		return false
	}
	// The turn came at the last moment.
	return true
}

// first tells that nobody of a class or of a more urgent one waits.
func (f *flow) first(c class) bool {
	for _, w := range f.waiting[:c+1] {
		if len(w) > 0 {
			return false
		}
	}
	return true
}

// leave gives slots back and wakes who is next.
func (f *flow) leave(weight int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy -= weight
	f.wake()
}

// wake serves who waits, in order: nobody overtakes one that waits for many slots, or it would wait until its time is over.
func (f *flow) wake() {
	for c := range f.waiting {
		for len(f.waiting[c]) > 0 {
			next := f.waiting[c][0]
			if !f.may(class(c), next.weight) {
				return
			}
			close(next.come)
			f.waiting[c] = f.waiting[c][1:]
			f.busy += next.weight
		}
	}
}

// begin tells whether a watch may begin now.
func (f *flow) begin(now time.Time, c class, weight int) bool { return f.begun[c].AllowN(now, weight) }

// queued is how many requests wait.
func (f *flow) queued() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, w := range f.waiting {
		n += len(w)
	}
	return n
}

// classOf tells how urgent a user's requests are.
func classOf(u authz.User) class {
	if u.Node() != "" || strings.HasPrefix(u.Name, "system:serviceaccount:kube-system:") {
		return classSystem
	}
	return classOthers
}

// longRunning tells whether a request stays open for as long as it is wanted: such are not counted.
func longRunning(r *http.Request, t target) bool {
	if sub, ok := t.kind.Subresource(t.subresource); ok && deeds[sub.Does].long {
		return true
	}
	return t.verb(r.Method) == "watch"
}

// turn waits for the slots that a request takes, or counts a watch or a stream, and refuses it if there is no room. The first result gives the slots back.
func (s *Server) turn(r *http.Request, t target) (func(), error) {
	user := authz.UserFrom(r.Context())
	c := classOf(user)
	switch {
	case t.verb(r.Method) == "watch":
		if !s.flow.begin(time.Now(), c, s.weightOf(r, t)) {
			return nil, tooBusy()
		}
		return func() {}, nil
	case longRunning(r, t):
		return s.streams.begin(user.Name)
	}
	weight := s.weightOf(r, t)
	if !s.flow.enter(r.Context(), c, weight) {
		return nil, tooBusy()
	}
	return func() { s.flow.leave(weight) }, nil
}

// weightOf is how many slots a request takes: a list, or what works like one, by the objects that it touches. They are counted in the state that this
// server has, up to the number from which more make no difference, so that counting costs little beside what follows.
func (s *Server) weightOf(r *http.Request, t target) int {
	if !t.known || t.name != "" || !walks(t.verb(r.Method), t.query) {
		return 1
	}
	limit := s.flow.heaviest() * objectsPerSlot
	if n, err := number(t.query, "limit"); err == nil && n > 0 && t.query.Get("resourceVersion") != "0" && t.query.Get("labelSelector") == "" && t.query.Get("fieldSelector") == "" {
		limit = int(min(n, int64(limit)))
	}
	objects := 0
	for range s.cfg.Store.View().List(t.resource, t.namespace) {
		if objects++; objects >= limit {
			break
		}
	}
	return s.flow.weight(objects)
}

// walks tells whether a request reads all objects of a resource: not if it names one, and no watch that begins behind a revision.
func walks(verb string, query url.Values) bool {
	switch verb {
	case "list", "deletecollection":
	case "watch":
		if rev := query.Get("resourceVersion"); rev != "" && rev != "0" && !isSet(query, "sendInitialEvents") {
			return false
		}
	default:
		return false
	}
	f, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return false
	}
	_, one := f.RequiresExactMatch("metadata.name")
	return !one
}

// tooBusy is the answer to who found no slot.
func tooBusy() error {
	return apierrors.NewTooManyRequests("too many requests, please try again later", 1)
}
