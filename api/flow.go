package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

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

	mu      sync.Mutex
	busy    int
	waiting [classes][]chan struct{}
}

// may tells whether one more request of a class may be served now.
func (f *flow) may(c class) bool {
	if c == classSystem {
		return f.busy < f.slots
	}
	return f.busy < f.slots-f.slots/systemShare
}

// enter waits for a slot and takes it; leave must be called if it answers true.
func (f *flow) enter(ctx context.Context, c class) bool {
	f.mu.Lock()
	if len(f.waiting[c]) == 0 && f.may(c) {
		f.busy++
		f.mu.Unlock()
		return true
	}
	if len(f.waiting[c]) >= f.slots*queuedPerSlot {
		f.mu.Unlock()
		return false
	}
	turn := make(chan struct{})
	f.waiting[c] = append(f.waiting[c], turn)
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, queueLimit)
	defer cancel()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.waiting[c], turn); i >= 0 {
		f.waiting[c] = slices.Delete(f.waiting[c], i, i+1)
		return false
	}
	// The turn came at the last moment.
	return true
}

// leave gives a slot back and wakes who is next.
func (f *flow) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	for c := range f.waiting {
		for len(f.waiting[c]) > 0 && f.may(class(c)) {
			close(f.waiting[c][0])
			f.waiting[c] = f.waiting[c][1:]
			f.busy++
		}
	}
}

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
	switch t.subresource {
	case "attach", "exec", "log", "portforward", "proxy":
		return true
	}
	return t.verb(r.Method) == "watch"
}

// tooBusy is the answer to who found no slot.
func tooBusy() error {
	return apierrors.NewTooManyRequests("too many requests, please try again later", 1)
}
