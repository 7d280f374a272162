package sequencer

import (
	"time"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// batch is what becomes one entry: requests that share it with what they wake, or a run of leftovers.
//
// A push is alone in its entry, so that what it did is exactly what its plan said. Other requests are tried one after the other, each
// on what those before it wrote, and the controllers run once for all of them: a thousand status reports cost a few runs.
type batch struct {
	t    *tenure
	head head
	now  time.Time
	// overlay holds the accepted writes, nil as long as there are none. With one request it is that request's own.
	overlay *cluster.Overlay
	raw     *rawLayer
	// jobs are the accepted requests. answers are those of the others: a refusal or a dry run was decided on the head, and on what this
	// batch had accepted before, and is told only when all that is committed.
	jobs    []*job
	answers []verdict
	// requested are the changes of the requests' own operations, by job; outcome is that of all.
	requested [][]controller.Change
	outcome   Outcome
	settled   bool
	// touched are the keys of the requests' operations: a request that names one of them goes into the next entry, so that the
	// history shows each request's own write.
	touched map[object.Key]bool
	full    bool
	// triggers are those of run.
	triggers []controller.Trigger
}

func (t *tenure) newBatch() *batch {
	b := &batch{t: t, head: t.head(), touched: map[object.Key]bool{}}
	b.now = b.head.now
	b.raw = newRawLayer(b.head.raw)
	return b
}

// alone tells whether a request is decided by itself.
func alone(req *Request) bool {
	return req.Source != "" || req.Token != "" || req.DryRun || len(req.Raw) > 0
}

// fits tells whether a request may join the batch.
func (b *batch) fits(req *Request) bool {
	if len(b.jobs) == 0 {
		return true
	}
	for i := range req.Ops {
		if b.touched[req.Ops[i].Key] {
			return false
		}
	}
	return !alone(req)
}

// add tries a request; if it may not be, only its own caller hears of it.
func (b *batch) add(j *job) {
	if l, ok := b.t.leases.renewal(b.reader(), j.req, b.now); ok {
		b.t.leases.keep(l)
		b.t.revive(b.reader(), l)
		// The revision is a committed one: the head's may never come.
		j.reply(Result{Rev: b.t.s.store.View().Rev(), Objects: []object.Object{l}}, nil)
		return
	}
	d := &b.t.s.decider
	decide := d.try
	if alone(j.req) {
		decide, b.settled, b.full = d.decide, true, true
	}
	dec, err := decide(b.reader(), b.raw.get, j.req, b.now)
	switch {
	case err != nil:
		b.answer(verdict{job: j, err: err})
	case j.req.DryRun:
		b.answer(verdict{job: j, res: Result{Rev: b.head.rev, Objects: objectsOf(j.req, dec.overlay, byKey(dec.outcome.Written), nil, b.now), Outcome: dec.outcome}})
	default:
		b.accept(j, dec)
	}
}

// answer keeps what a request that writes nothing is told.
func (b *batch) answer(v verdict) {
	b.answers = append(b.answers, v)
	b.full = b.full || len(b.jobs)+len(b.answers) >= maxBatch
}

func (b *batch) reader() cluster.Reader {
	if b.overlay != nil {
		return b.overlay
	}
	return b.head.reader
}

func (b *batch) accept(j *job, dec *decision) {
	b.jobs = append(b.jobs, j)
	b.requested = append(b.requested, dec.outcome.Requested)
	b.raw.take(dec.raw)
	if b.overlay == nil {
		b.overlay, b.outcome = dec.overlay, dec.outcome
	} else {
		for _, c := range dec.outcome.Requested {
			b.overlay.Apply([]cluster.Change{cluster.Change(c)})
		}
		keepStatuses(b.overlay, j.req)
	}
	for i := range j.req.Ops {
		b.touched[j.req.Ops[i].Key] = true
	}
	b.full = b.full || len(b.jobs)+len(b.answers) >= maxBatch || b.overlay.Len() > b.t.s.cfg.Budget
}

// settle runs the controllers for all requests, unless the one request was decided whole.
func (b *batch) settle() {
	if b.settled || b.overlay == nil {
		return
	}
	if len(b.jobs) > 1 {
		b.outcome.Requested = changes(b.overlay)
		b.outcome.Written = b.outcome.Requested
	}
	out, err := b.t.s.decider.settle(b.overlay, b.outcome, b.now)
	if err != nil {
		b.fail(err)
		return
	}
	b.outcome = out
}

// run fills the batch with what triggers make of an overlay. After an error the batch is of no use.
func (b *batch) run(o *cluster.Overlay, triggers []controller.Trigger) (err error) {
	b.overlay, b.settled = o, true
	b.outcome, err = b.t.s.decider.run(o, Outcome{Base: b.head.reader, After: o, Written: changes(o)}, triggers, b.now)
	return err
}

// verdicts are what all requests of the batch are told, but for the revision. written are the changes as they were sealed.
func (b *batch) verdicts(written []controller.Change) []verdict {
	changed, gone := byKey(written), removals(b.head.rev, written)
	out := b.answers
	for i, j := range b.jobs {
		outcome := b.outcome
		outcome.Requested = b.requested[i]
		out = append(out, verdict{job: j, writes: true, res: Result{Objects: objectsOf(j.req, b.overlay, changed, gone, b.now), Outcome: outcome}})
	}
	return out
}

// notes are the operations that note the place of the entry beside the rows of the commits that it makes.
func (b *batch) notes() (ops []raftstore.Op) {
	for _, j := range b.jobs {
		for i := range j.req.Ops {
			if op := &j.req.Ops[i]; j.req.Commit != "" && op.Verb != Delete && op.Key.Resource == "commits" {
				ops = append(ops, raftstore.NotePlace(op.Key.Path()))
			}
		}
	}
	return ops
}

// fail is for accepted requests that come to nothing: they are tried in halves, and one that is alone is answered with err. The others are tried
// again, for they may have been decided on those. It empties the batch.
func (b *batch) fail(err error) {
	b.t.narrow(group{jobs: b.jobs}, err)
	var others group
	for _, a := range b.answers {
		others.jobs = append(others.jobs, a.job)
	}
	if others.len() > 0 {
		b.t.redo = append(b.t.redo, others)
	}
	b.jobs, b.answers, b.requested, b.overlay, b.outcome, b.raw = nil, nil, nil, nil, Outcome{}, newRawLayer(b.head.raw)
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
