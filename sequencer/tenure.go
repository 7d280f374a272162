package sequencer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/mutant"
	"reconcile/object"
	"reconcile/raftstore"
)

// depth is how many entries are under way at once: while one is written, the next is decided on what it will make.
const depth = 2

// maxBatch is how many requests share an entry, and maxStreak how many entries of requests pass before leftovers get a turn.
const (
	maxBatch  = 256
	maxStreak = 8
)

// tenure is one time of leading: everything that the leader keeps in memory. It has one goroutine.
type tenure struct {
	s      *Sequencer
	term   uint64
	wg     sync.WaitGroup // of the goroutines that wait for flights
	leases *leases
	// touching tells that renewals are being written.
	touching atomic.Bool
	wakes    *wakes
	// leftover are triggers that are to be run in entries of their own.
	leftover []controller.Trigger
	// suspect are parts of a leftover that panicked as a whole.
	suspect [][]controller.Trigger
	flights []*flight
	// launched is the last entry that was started.
	launched *launch
	// redo are decided next, one after the other, each when nothing is under way.
	redo []group
	// next is a request that was taken off the queue and did not fit into the batch before.
	next *job
	// other tells that transactions had their turn last, so that requests are next if both wait.
	other  bool
	streak int
	clock  *clock
	over   bool
}

// flight is an entry under way.
type flight struct {
	nonce   uint64
	changes []cluster.Change
	raw     *rawLayer
	last    uint64
	// base is the revision that it was decided on.
	base uint64
	// triggers are the leftovers that it is what became of.
	triggers []controller.Trigger
	// empty tells that nothing is written: only the answers wait, until what they were decided on is known to be committed.
	empty   bool
	answers []verdict
	done    chan error

	// txns are those of an entry of transactions. kv is what the entry wrote, nil until somebody asks; ops are its operations.
	txns []txnVerdict
	kv   *kvLayer
	ops  []raftstore.Op
	// guarded tells that the entry may come to nothing when it is performed, though the store does not refuse it.
	guarded bool
}

// verdict is what a request is told when the entry that it was decided with, or behind, is committed.
type verdict struct {
	job *job
	res Result
	err error
	// writes tells that the entry holds writes of the request; the others are refused, dry runs, or would change nothing.
	writes bool
}

// lead works until leadership or ctx ends, or a proposal fails: then everything that was decided and not committed is void, and the next
// tenure begins with a barrier and with what is committed.
func (s *Sequencer) lead(ctx context.Context, term uint64) {
	if err := s.store.Barrier(ctx); err != nil {
		s.cfg.Logger.Debug("no barrier yet", "term", term, "error", err)
		return
	}
	v := s.store.View()
	now, live := s.store.Now()
	t := &tenure{s: s, term: term, leases: newLeases(), wakes: newWakes(), clock: newClock(s.cfg.Now, now, live)}
	t.leftover = s.decider.settler.Resync(cluster.NewView(v))
	s.cfg.Logger.Info("this server leads", "term", term, "revision", v.Rev(), "triggers", len(t.leftover))
	t.loop(ctx)
	t.end()
}

func (t *tenure) loop(ctx context.Context) {
	checkpoint := time.NewTicker(t.s.cfg.LeaseCheckpoint)
	defer checkpoint.Stop()
	for !t.over {
		changed := t.s.store.LeaderChanged()
		if l := t.s.store.Leader(); !l.Self || l.Term != t.term || ctx.Err() != nil {
			return
		}
		if t.reap() || t.work(ctx) {
			continue
		}
		var queue <-chan *job
		var txns <-chan struct{}
		if t.room() && len(t.redo) == 0 {
			queue, txns = t.s.queue, t.s.txns.ready
		}
		select {
		case j := <-queue:
			t.next = j
		case <-txns: // the next round looks
		case err := <-t.landed():
			t.land(err)
		case <-t.alarm():
			t.leftover = append(t.leftover, t.wakes.due(t.clock.now())...)
		case <-checkpoint.C:
			t.checkpoint(ctx)
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (t *tenure) room() bool { return len(t.flights) < depth }

// landed is the channel of the oldest entry under way.
func (t *tenure) landed() <-chan error {
	if len(t.flights) == 0 {
		return nil
	}
	return t.flights[0].done
}

// alarm fires when the next wake is due.
func (t *tenure) alarm() <-chan time.Time {
	at, ok := t.wakes.next()
	if !ok {
		return nil
	}
	return time.After(at.Sub(t.clock.now()))
}

// reap takes in the oldest entry if it is done.
func (t *tenure) reap() bool {
	select {
	case err := <-t.landed():
		t.land(err)
		return true
	default:
		return false
	}
}

func (t *tenure) land(err error) {
	f := t.flights[0]
	if err != nil && mutant.KeepHead {
		t.flights = t.flights[1:]
		f.fail(errAgain)
		return
	}
	if errors.Is(err, raftstore.ErrRefused) && !errors.Is(err, raftstore.ErrNotLeader) {
		t.refused(err)
		return
	}
	if err != nil {
		f.done <- err // end answers it
		t.over = true
		return
	}
	t.flights = t.flights[1:]
	for _, a := range f.answers {
		if a.writes && a.job.req.Commit != "" {
			t.s.cfg.Logger.Info("entry committed", "commit", object.ShortCommit(a.job.req.Commit), "rev", f.last, "writes", len(f.changes),
				"placed", len(a.res.Outcome.Settled.Placements), "unplaced", len(a.res.Outcome.Settled.Unplaced))
		}
	}
	f.succeed()
}

func (f *flight) succeed() {
	for _, a := range f.answers {
		if a.writes {
			a.res.Rev = f.last
		}
		a.job.reply(a.res, a.err)
	}
	for _, t := range f.txns {
		t.job.reply(t.answer, nil)
	}
}

// fail answers with err what the entry would have written. What it would not is tried again: it was decided on what did not come true.
func (f *flight) fail(err error) {
	for _, a := range f.answers {
		if !a.writes {
			a.job.reply(Result{}, errAgain)
			continue
		}
		a.job.reply(Result{}, err)
	}
	for _, t := range f.txns {
		if t.writes {
			t.job.reply(nil, err)
		} else {
			t.job.reply(nil, errAgain)
		}
	}
}

// work decides what is next, if there is room: requests first, and now and then leftovers between them.
func (t *tenure) work(ctx context.Context) bool {
	if !t.room() || len(t.redo) > 0 && len(t.flights) > 0 {
		return false
	}
	if len(t.redo) > 0 {
		t.again(ctx)
		return true
	}
	if t.txnsTurn() {
		t.other = true
		t.streak++
		t.txnBatch(ctx)
		return true
	}
	t.other = false
	if t.next == nil && (t.streak < maxStreak || !t.restless()) {
		select {
		case t.next = <-t.s.queue:
		default:
		}
	}
	switch {
	case t.next != nil:
		t.streak++
		t.requests(ctx)
	case t.restless():
		t.streak = 0
		t.settleLeftover(ctx)
	default:
		t.streak = 0
		return false
	}
	return true
}

// head is the state that the next decision is made on: what is committed, with the entries under way on top.
type head struct {
	reader cluster.Reader
	raw    func(string) ([]byte, bool)
	rev    uint64
	now    time.Time
}

func (t *tenure) head() head {
	v := t.s.store.View()
	h := head{raw: rawOf(v), rev: v.Rev(), now: t.clock.now()}
	h.reader = leaseReader{cluster.NewView(v), t.leases, h.now, mutant.LeaseNow()}
	var o *cluster.Overlay
	for _, f := range t.flights {
		if f.last <= v.Rev() {
			continue
		}
		if o == nil {
			o = cluster.NewOverlay(h.reader)
		}
		o.Apply(f.changes)
		h.raw = f.rawOver(h.raw)
		h.rev = f.last
	}
	if o != nil {
		h.reader = o
	}
	return h
}

// rawOver is the raw keys as the entry leaves them: those that requests have written, and those of transactions.
func (f *flight) rawOver(below func(key string) ([]byte, bool)) func(key string) ([]byte, bool) {
	return func(key string) ([]byte, bool) {
		if v, ok := f.raw.own[key]; ok {
			return v.value, !v.absent
		}
		if f.kv != nil {
			if r, ok := f.kv.own[key]; ok {
				return r.Value, r.Version > 0
			}
		}
		return below(key)
	}
}

// requests decides a batch that begins with t.next, and proposes it.
func (t *tenure) requests(ctx context.Context) {
	b := t.newBatch()
	for !b.full {
		j := t.next
		if t.next = nil; j == nil {
			select {
			case j = <-t.s.queue:
			default:
			}
		}
		if j == nil {
			break
		}
		if !b.fits(j.req) {
			t.next = j
			break
		}
		if j.take() {
			b.add(j)
		}
	}
	b.settle()
	t.propose(ctx, b)
}

// settleLeftover runs triggers that came from wakes, from a spent budget or from the beginning of the tenure.
func (t *tenure) settleLeftover(ctx context.Context) {
	triggers := t.leftover
	t.leftover = nil
	if n := len(t.suspect); len(triggers) == 0 && n > 0 {
		triggers, t.suspect = t.suspect[n-1], t.suspect[:n-1]
	}
	b := t.newBatch()
	if err := b.run(cluster.NewOverlay(b.head.reader), triggers); err != nil {
		t.holdBack(triggers)
		return
	}
	b.triggers = triggers
	t.propose(ctx, b)
}

// restless tells whether triggers wait for an entry of their own.
func (t *tenure) restless() bool { return len(t.leftover)+len(t.suspect) > 0 }

// checkpoint writes the times of renewed leases beside everything else that is under way. One that is still being written when the next
// is due takes that one's place too.
func (t *tenure) checkpoint(ctx context.Context) {
	if t.touching.Load() {
		return
	}
	list := t.leases.unwritten(leaseReader{cluster.NewView(t.s.store.View()), t.leases, t.clock.now(), mutant.LeaseNow()})
	if len(list) == 0 {
		return
	}
	t.touching.Store(true)
	t.wg.Go(func() {
		defer t.touching.Store(false)
		if err := t.s.store.Touch(ctx, touches(list)); err != nil {
			t.s.cfg.Logger.Debug("renewals of leases were not written; the next checkpoint does it", "leases", len(list), "error", err)
			return
		}
		t.leases.written(list)
	})
}

// revive wakes the controllers for a renewed lease whose node is not Ready.
func (t *tenure) revive(v cluster.Reader, l *coordinationv1.Lease) {
	o, ok := v.Get(object.Key{Resource: "nodes", Name: l.Name})
	if !ok {
		return
	}
	for _, c := range o.(*corev1.Node).Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return
		}
	}
	woken, err := t.s.decider.triggers(v, []controller.Change{{Key: object.KeyOf(l), Old: l, New: l}})
	if err != nil {
		return // it is logged, and the next renewal tries again
	}
	t.leftover = append(t.leftover, woken...)
}

// propose seals a batch and sends it off.
func (t *tenure) propose(ctx context.Context, b *batch) {
	t.report(b.outcome.Settled)
	t.leftover = append(t.leftover, b.outcome.Settled.Leftover...)
	t.wakes.add(b.outcome.Settled.Wakes)
	empty := len(b.outcome.Written)+len(b.raw.order) == 0
	if len(b.jobs)+len(b.answers) == 0 && empty {
		return
	}
	s, err := seal(b.head.rev, b.now, b.outcome.Written, b.raw)
	if err != nil {
		t.s.cfg.Logger.Error("an entry cannot be encoded", "error", err)
		t.holdBack(b.triggers)
		b.fail(apierrors.NewInternalError(fmt.Errorf("encode the changes: %w", err)))
		return
	}
	f := &flight{nonce: t.s.store.Nonce(), raw: b.raw, last: s.last, triggers: b.triggers, empty: empty, answers: b.verdicts(s.changes), done: make(chan error, 1)}
	for _, c := range s.changes {
		f.changes = append(f.changes, cluster.Change(c))
	}
	s.entry.Nonce = f.nonce
	if empty {
		t.confirm(ctx, f)
		return
	}
	s.entry.Ops = append(s.entry.Ops, b.notes()...)
	f.ops = s.entry.Ops
	t.start(ctx, f, s.entry)
}

// launch is an entry on its way into the log. done is closed when it is there, or err tells why it will never be.
type launch struct {
	done chan struct{}
	err  error
}

// over tells whether it is.
func (l *launch) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// start sends an entry off. One that may have to be staged does not hold up the tenure; those behind it follow it into the log.
func (t *tenure) start(ctx context.Context, f *flight, e raftstore.Entry) {
	f.base = e.Base
	t.flights = append(t.flights, f)
	before, mine := t.launched, &launch{done: make(chan struct{})}
	t.launched = mine
	if raftstore.Size(e.Ops) > raftstore.MaxEntry || before != nil && !before.over() {
		t.wg.Go(func() {
			if before != nil {
				<-before.done
			}
			if p := t.launch(ctx, before, mine, f, e); p != nil {
				f.done <- f.wait(ctx, p)
			}
		})
		return
	}
	p := t.launch(ctx, before, mine, f, e)
	if p == nil {
		return
	}
	if mutant.AckBeforeCommit {
		f.succeed()
		f.answers = nil
	}
	t.wg.Go(func() { f.done <- f.wait(ctx, p) })
}

// wait returns what became of the entry.
func (f *flight) wait(ctx context.Context, p *raftstore.Pending) error {
	out, err := p.Wait(ctx)
	if err == nil && f.guarded && out.Last != f.last {
		return fmt.Errorf("%w: it was passed over, for the term is another", raftstore.ErrRefused)
	}
	return err
}

// launch brings an entry into the log, behind the one before it, or answers the flight that it never will.
func (t *tenure) launch(ctx context.Context, before, mine *launch, f *flight, e raftstore.Entry) *raftstore.Pending {
	defer close(mine.done)
	var p *raftstore.Pending
	if before != nil {
		mine.err = before.err
	}
	if mine.err == nil {
		p, mine.err = t.s.store.Start(ctx, e)
	}
	if errors.Is(mine.err, raftstore.ErrTooLarge) || errors.Is(mine.err, raftstore.ErrNoSpace) {
		f.done <- fmt.Errorf("%w: %w", raftstore.ErrRefused, mine.err)
		mine.err = nil // what was decided on it will be refused too
		return nil
	}
	if mine.err != nil {
		// Nothing of this entry itself has been proposed, only pieces that nobody sees.
		f.done <- fmt.Errorf("%w: %w", raftstore.ErrNotLeader, mine.err)
		return nil
	}
	return p
}

// confirm is for what changes nothing: it is answered when this server is known to lead, and the entries before it, on which it was
// decided, are committed (land goes by their order).
func (t *tenure) confirm(ctx context.Context, f *flight) {
	t.flights = append(t.flights, f)
	t.wg.Go(func() {
		_, err := t.s.store.ReadIndex(ctx)
		if err != nil {
			err = fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
		}
		f.done <- err
	})
}

// end answers everything that is under way, each entry by what became of it.
func (t *tenure) end() {
	if t.next != nil && t.next.take() {
		t.next.reply(Result{}, errAgain)
	}
	for _, g := range t.redo {
		g.fail(errAgain)
	}
	t.s.rejectTxns()
	failed := false
	for _, f := range t.flights {
		err := <-f.done
		failed = failed || err != nil
		switch {
		case failed && f.empty:
			f.fail(errAgain)
		case err == nil:
			f.succeed()
		case errors.Is(err, raftstore.ErrUnknown):
			t.s.cfg.Logger.Warn("the outcome of an entry is unknown; looking for it", "revision", f.last, "error", err)
			t.wg.Go(func() { t.s.resolve(t.term, f, err) })
		default:
			f.fail(errAgain)
		}
	}
	t.wg.Wait()
	t.s.cfg.Logger.Info("this server no longer leads, or begins anew", "term", t.term)
}

// resolveWithin is how long the outcome of an entry is looked for.
const resolveWithin = 5 * time.Second

// resolve finds out what became of an entry whose proposal ended without an answer. If a later term has committed an entry of its own and
// the state up to there does not hold this one, it never will: raft lets no server lead that lacks what is committed. The store forgets old
// outcomes: one that it may have forgotten is unknown, for another try could write a second time.
func (s *Sequencer) resolve(term uint64, f *flight, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	s.wg.Go(func() {
		select {
		case <-s.store.Closed():
			cancel()
		case <-ctx.Done():
		}
	})
	err := s.withLeader(ctx, resolveWithin, func(l raftstore.Leader) error {
		if l.Self {
			if err := s.store.Barrier(ctx); err != nil {
				return again(err)
			}
			return nil
		}
		p, now, err := s.readThere(ctx, l)
		if err != nil {
			return err
		}
		if now <= term {
			return errAgain
		}
		return s.store.WaitPoint(ctx, p)
	})
	out, found, sure := s.store.Fate(f.nonce, f.last)
	switch {
	case found && !out.Refused:
		f.succeed()
	case found || err == nil && sure:
		f.fail(errAgain)
	default:
		f.fail(unknownOutcome(cause))
	}
}
