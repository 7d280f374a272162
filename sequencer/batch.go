package sequencer

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
)

// batch is what becomes one entry: the requests that share it, each with what it woke, or a run of leftovers.
type batch struct {
	t    *tenure
	head head
	now  time.Time
	// overlay holds the accepted writes; nil as long as at most one request (first) was accepted, whose own overlay serves.
	overlay  *cluster.Overlay
	first    *cluster.Overlay
	raw      *rawLayer
	jobs     []*job
	outcomes []Outcome
	leftover []controller.Trigger
	wakes    []controller.Wake
	// touched are the keys of the requests' operations: a request that names one of them goes into the next entry, so that the
	// history shows each request's own write.
	touched map[object.Key]bool
	writes  int
	full    bool
}

// reader is the state that the next request of the batch is decided on.
func (b *batch) reader() cluster.Reader {
	switch {
	case b.overlay != nil:
		return b.overlay
	case b.first != nil:
		return b.first
	}
	return b.head.reader
}

// merge takes the writes of an accepted request into the batch. A request's own overlay stays as it was decided.
func (b *batch) merge(dec *decision) {
	b.raw.take(dec.raw)
	if len(b.jobs) == 0 {
		b.first = dec.overlay
		return
	}
	if b.overlay == nil {
		b.overlay = cluster.NewOverlay(b.head.reader)
		b.take(b.outcomes[0].Written)
	}
	b.take(dec.outcome.Written)
}

func (b *batch) take(list []controller.Change) {
	for _, c := range list {
		b.overlay.Apply([]cluster.Change{cluster.Change(c)})
	}
}

func (b *batch) fits(req *Request) bool {
	if len(b.jobs) == 0 {
		return true
	}
	for i := range req.Ops {
		if b.touched[req.Ops[i].Key] {
			return false
		}
	}
	return len(req.Raw) == 0 && req.Source == ""
}

// decide tries a request; if it may not be, only its own caller hears of it.
func (b *batch) decide(j *job) {
	if l, ok := b.t.leases.renewal(b.reader(), j.req); ok {
		b.t.leases.keep(l)
		j.reply(Result{Rev: b.head.rev, Objects: []object.Object{l}}, nil)
		return
	}
	dec, err := b.t.s.decider.decide(b.reader(), b.raw.get, j.req, b.now)
	if err != nil {
		j.reply(Result{}, err)
		return
	}
	if j.req.DryRun {
		j.reply(Result{Rev: b.head.rev, Objects: objectsOf(j.req, dec.overlay, byKey(dec.outcome.Written)), Outcome: dec.outcome}, nil)
		return
	}
	b.accept(j, dec)
}

func (b *batch) accept(j *job, dec *decision) {
	b.merge(dec)
	b.jobs = append(b.jobs, j)
	b.outcomes = append(b.outcomes, dec.outcome)
	b.leftover = append(b.leftover, dec.outcome.Settled.Leftover...)
	b.wakes = append(b.wakes, dec.outcome.Settled.Wakes...)
	for i := range j.req.Ops {
		b.touched[j.req.Ops[i].Key] = true
	}
	// A push stands last in its entry: what it is told about the state after it must not show another's writes.
	b.writes += len(dec.outcome.Written)
	b.full = len(b.jobs) >= maxBatch || j.req.Source != "" || b.writes > b.t.s.cfg.Budget
	b.t.report(dec.outcome.Settled)
}

// settle fills the batch with what triggers make of an overlay.
func (b *batch) settle(o *cluster.Overlay, triggers []controller.Trigger) {
	d := &b.t.s.decider
	out := d.settler.Settle(o, triggers, b.now, d.budget, d.admit)
	b.overlay = o
	b.leftover, b.wakes = out.Leftover, out.Wakes
	b.t.report(out)
}

// changes are all writes of the batch, in the order of keys.
func (b *batch) changes() []controller.Change {
	switch {
	case b.overlay != nil:
		return changes(b.overlay)
	case len(b.outcomes) == 1:
		return b.outcomes[0].Written
	}
	return nil
}

// answers are the jobs' results, but for the revision.
func (b *batch) answers(written []controller.Change) []Result {
	changed := byKey(written)
	out := make([]Result, len(b.jobs))
	for i, j := range b.jobs {
		out[i] = Result{Objects: objectsOf(j.req, b.outcomes[i].After.(cluster.Reader), changed), Outcome: b.outcomes[i]}
	}
	return out
}

func (b *batch) fail(err error) {
	for _, j := range b.jobs {
		j.reply(Result{}, apierrors.NewInternalError(err))
	}
}

func byKey(list []controller.Change) map[object.Key]controller.Change {
	m := make(map[object.Key]controller.Change, len(list))
	for _, c := range list {
		m[c.Key] = c
	}
	return m
}

// report logs what the controllers could not do.
func (t *tenure) report(out controller.Outcome) {
	for _, q := range out.Quarantined {
		t.s.cfg.Logger.Error("a controller is held back for a key", "controller", q.Trigger.Controller, "key", q.Trigger.Key.String(), "reason", q.Reason)
	}
	for _, q := range out.Errors {
		t.s.cfg.Logger.Warn("a controller failed for a key", "controller", q.Trigger.Controller, "key", q.Trigger.Key.String(), "reason", q.Reason)
	}
}
