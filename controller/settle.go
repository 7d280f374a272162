package controller

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"reconcile/object"
	"reconcile/scheduler"
)

const (
	// maxRuns is how often one key may run within one Settle with effect before it counts as never settling.
	maxRuns = 64
	// maxParts is how many parts of one key are run one by one; of more the whole is run.
	maxParts = 8
	// retryQuarantine and retryError are how long a key rests after a panic or an error.
	retryQuarantine = time.Minute
	retryError      = 5 * time.Second
)

// Settle runs the controllers of set on the overlay, beginning with triggers, until nothing changes or budget writes have been
// made, and those of a completer after that. It writes only to the overlay and is a function of its arguments: the same input gives the same writes in the same
// order. now must not be before that of the last entry. A run's writes are applied as a whole, so the budget may be exceeded
// by the last runs. A controller that panics or never settles costs its own key only.
func Settle(set *Set, o Overlay, triggers []Trigger, now time.Time, budget int, admit Admit) Outcome {
	s := &settling{set: set, o: o, now: now, admit: admit, parts: map[job]int{},
		queues: make([][]object.Key, len(set.controllers)), queued: map[job]bool{}, runs: map[job]int{}, out: map[job]bool{}}
	for _, t := range triggers {
		if i, ok := set.byName[t.Controller]; ok {
			s.push(i, t.Key)
		}
	}
	for s.outcome.Ops < budget {
		j, ok := s.pop()
		if !ok {
			break
		}
		s.run(j)
	}
	s.completeAll()
	s.outcome.Leftover = s.rest()
	return s.outcome
}

// job is a trigger with the controller's place in the set.
type job struct {
	controller int
	key        object.Key
}

// settling is the state of one Settle.
type settling struct {
	set    *Set
	o      Overlay
	now    time.Time
	admit  Admit
	queues [][]object.Key // one first-in-first-out queue a controller
	queued map[job]bool
	runs   map[job]int
	out    map[job]bool // quarantined
	// parts is how many parts of a key are queued.
	parts map[job]int
	// running is the run whose result is being applied.
	running job

	outcome Outcome
}

func (s *settling) trigger(j job) Trigger {
	return Trigger{Controller: s.set.controllers[j.controller].Name(), Key: j.key}
}

func (s *settling) push(i int, k object.Key) {
	j := job{i, k}
	if s.queued[j] || s.out[j] {
		return
	}
	if whole, part := s.set.whole(i, k); part {
		w := job{i, whole}
		if s.queued[w] {
			return
		}
		if s.parts[w] == maxParts {
			s.push(i, whole)
			return
		}
		s.parts[w]++
	}
	s.queued[j] = true
	s.queues[i] = append(s.queues[i], k)
}

func (s *settling) pop() (job, bool) {
	for i := range s.queues {
		for len(s.queues[i]) > 0 {
			j := job{i, s.queues[i][0]}
			s.queues[i] = s.queues[i][1:]
			delete(s.queued, j)
			if whole, part := s.set.whole(i, j.key); part {
				w := job{i, whole}
				s.parts[w]--
				if s.queued[w] {
					continue // it does this too
				}
			}
			// A key may have been queued by the very run that was its last.
			if !s.out[j] {
				return j, true
			}
		}
	}
	return job{}, false
}

// completer is a controller whose runs complete what those before it have made: they are not left for another entry, so that most pods are written once.
type completer interface{ completes(object.Key) bool }

// completeAll runs what completers have waiting when the budget is spent.
func (s *settling) completeAll() {
	for i, c := range s.set.controllers {
		b, ok := c.(completer)
		if !ok {
			continue
		}
		for _, k := range slices.Clone(s.queues[i]) {
			if j := (job{i, k}); b.completes(k) {
				s.queues[i] = slices.DeleteFunc(s.queues[i], func(q object.Key) bool { return q == k })
				delete(s.queued, j)
				s.run(j)
			}
		}
	}
}

func (s *settling) rest() []Trigger {
	var left []Trigger
	for {
		j, ok := s.pop()
		if !ok {
			return left
		}
		left = append(left, s.trigger(j))
	}
}

func (s *settling) wake(j job, at time.Time) {
	s.outcome.Wakes = append(s.outcome.Wakes, Wake{Trigger: s.trigger(j), At: at})
}

func (s *settling) quarantine(j job, reason string) {
	s.out[j] = true
	s.outcome.Quarantined = append(s.outcome.Quarantined, Quarantine{Trigger: s.trigger(j), Reason: reason})
	s.wake(j, s.now.Add(retryQuarantine))
	if about, ok := s.o.Get(j.key); ok {
		s.event(Event{Regarding: about, Type: "Warning", Reason: "ControllerQuarantined", Component: s.trigger(j).Controller + "-controller",
			Message: "controller " + s.trigger(j).Controller + " is held back for this object: " + firstLine(reason)})
	}
}

func (s *settling) run(j job) {
	res, err := s.reconcile(j)
	var p panicked
	if errors.As(err, &p) {
		s.quarantine(j, p.Error())
		return
	}
	if err == nil {
		err = s.complete(j.key, &res)
	}
	if errors.Is(err, errReplaces) || errors.Is(err, errRewrites) {
		s.wake(j, s.now)
		return
	}
	if err != nil {
		s.outcome.Errors = append(s.outcome.Errors, Quarantine{Trigger: s.trigger(j), Reason: err.Error()})
		s.wake(j, s.now.Add(retryError))
		return
	}
	before := s.outcome.Ops
	s.running = j
	s.apply(res)
	if !res.Wake.IsZero() {
		s.wake(j, res.Wake)
	}
	for _, o := range res.Others {
		s.wake(job{j.controller, o.Key}, o.At)
	}
	if s.outcome.Ops == before {
		return
	}
	if s.runs[j]++; s.runs[j] >= maxRuns {
		s.quarantine(j, fmt.Sprintf("it never settles: %d runs in a row changed something", maxRuns))
	}
}

// errReplaces holds a run back whose new object would take the key of one that is removed in the same entry.
var errReplaces = errors.New("an object is removed and made anew in one entry")

// errRewrites holds a run back that would write a status over the one that a client writes in the same entry.
var errRewrites = errors.New("a status is written twice in one entry")

// panicked is the error of a controller that panicked.
type panicked struct{ text string }

func (p panicked) Error() string { return p.text }

func (s *settling) reconcile(j job) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked{fmt.Sprintf("controller panicked: %s\n%s", PanicText(p), debug.Stack())}
		}
	}()
	return s.set.controllers[j.controller].Reconcile(s.o, j.key, s.now)
}

// complete admits every object of a result before any is written, so that a run is applied as a whole or not at all. Of a run that would make
// something in a namespace that is being deleted only that is done which concerns others that are there: nothing is made, as where Kubernetes' API
// server refuses it, and the key's own object does not say that it was.
func (s *settling) complete(key object.Key, res *Result) error {
	kept, closed := res.Put[:0], false
	for _, o := range res.Put {
		old, ok := s.o.Get(object.KeyOf(o))
		if !ok {
			old = nil
			if s.closed(o) {
				closed = true
				continue
			}
			if r, knows := s.o.(remover); knows && r.Removed(object.KeyOf(o)) {
				return errReplaces
			}
		}
		if s.admit != nil {
			if err := s.admit(o, old, s.now); err != nil {
				return fmt.Errorf("admit %s: %w", object.KeyOf(o), err)
			}
		}
		if p, isPod := o.(*corev1.Pod); isPod && old == nil {
			if err := scheduler.Admit(s.o, p); err != nil {
				return fmt.Errorf("admit %s: %w", object.KeyOf(o), err)
			}
		}
		if k, knows := s.o.(statusKeeper); knows && old != nil && k.KeepsStatus(object.KeyOf(o)) && !sameStatus(o, old) {
			return errRewrites
		}
		if old != nil && !bound(o, old) && equality.Semantic.DeepEqual(o, old) {
			continue
		}
		kept = append(kept, o)
	}
	if closed {
		kept = slices.DeleteFunc(kept, func(o object.Object) bool { return object.KeyOf(o) == key })
	}
	res.Put = kept
	return nil
}

// sameStatus compares the statuses of two objects of one kind, if it has one.
func sameStatus(a, b object.Object) bool {
	of := func(o object.Object) reflect.Value { return reflect.ValueOf(o).Elem().FieldByName("Status") }
	return !of(a).IsValid() || equality.Semantic.DeepEqual(of(a).Interface(), of(b).Interface())
}

// closed tells whether an object that is to be made would stand in a namespace that is being deleted.
func (s *settling) closed(o object.Object) bool {
	if o.GetNamespace() == "" {
		return false
	}
	ns, ok := s.o.Get(object.Key{Resource: "namespaces", Name: o.GetNamespace()})
	return ok && ns.GetDeletionTimestamp() != nil
}

// bound sees at once that a pod was bound, which saves the long comparison where it is most frequent.
func bound(o, old object.Object) bool {
	p, ok := o.(*corev1.Pod)
	return ok && p.Spec.NodeName != old.(*corev1.Pod).Spec.NodeName
}

func (s *settling) apply(res Result) {
	for _, o := range res.Put {
		s.put(o)
	}
	for _, d := range res.Delete {
		live, ok := s.o.Get(d.Key)
		if !ok {
			continue
		}
		next, gone := BeginDelete(live, d.DeleteOptions, s.now)
		switch {
		case gone:
			s.write(Change{Key: d.Key, Old: live})
		case next != nil:
			s.write(Change{Key: d.Key, Old: live, New: next})
		}
	}
	for _, e := range res.Events {
		s.event(e)
	}
	s.outcome.Placements = append(s.outcome.Placements, res.Placements...)
	s.outcome.Unplaced = mergeUnplaced(s.outcome.Unplaced, res)
}

// mergeUnplaced keeps the last verdict on each pod: a pod that a later round could place is no longer unplaced.
func mergeUnplaced(had []Unplaced, res Result) []Unplaced {
	if len(had) == 0 {
		return append(had, res.Unplaced...)
	}
	if len(res.Placements) == 0 && len(res.Unplaced) == 0 {
		return had
	}
	decided := map[object.Key]bool{}
	for _, p := range res.Placements {
		decided[p.Pod] = true
	}
	for _, u := range res.Unplaced {
		decided[u.Pod] = true
	}
	var out []Unplaced
	for _, u := range had {
		if !decided[u.Pod] {
			out = append(out, u)
		}
	}
	return append(out, res.Unplaced...)
}

func (s *settling) put(o object.Object) {
	key := object.KeyOf(o)
	ch := Change{Key: key, New: o}
	if old, ok := s.o.Get(key); ok {
		ch.Old = old
	}
	if Finished(o) {
		if ch.Old == nil {
			return
		}
		ch.New = nil
	}
	s.write(ch)
}

func (s *settling) write(ch Change) {
	if ch.New == nil {
		s.o.Delete(ch.Key)
	} else {
		s.o.Put(ch.New)
	}
	s.outcome.Ops++
	s.set.keys(s.o, ch, func(i int, k object.Key) {
		if i == s.running.controller && s.set.final(i, ch.Key.Resource) {
			if whole, _ := s.set.whole(i, s.running.key); k == whole {
				return
			}
		}
		s.push(i, k)
	})
}

func firstLine(t string) string {
	line, _, _ := strings.Cut(t, "\n")
	return line
}
