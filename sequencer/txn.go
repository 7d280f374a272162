package sequencer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// Txn is a transaction on keys. The sequencer knows nothing of what it means: it gives it the state that all transactions before it
// have made, and commits what it writes as a whole, under one revision. Etcd's requests are Txns (etcdapi).
type Txn interface {
	// Decide reads and writes the state and gives the answer. It must be a function of the state alone, and must not block: it runs in
	// the one goroutine that decides everything. If ok is false, what it wrote is forgotten and only the answer remains.
	Decide(kv *KV) (answer Answer, ok bool)
	// AppendTo appends the encoding that Config.Txns understands, for the way to the leader.
	AppendTo(b []byte) []byte
	// Size is about how many bytes it will write, from above.
	Size() int
}

// Answer is what a transaction comes to.
type Answer interface {
	// AppendTo appends the encoding that Config.Txns understands, for the way back from the leader.
	AppendTo(b []byte) []byte
}

// TxnCodec reads transactions and answers that came from another server. What it returns may keep the bytes.
type TxnCodec interface {
	Txn(body []byte) (Txn, error)
	Answer(body []byte) (Answer, error)
}

// maxTxns and maxTxnBytes bound an entry of transactions: what is larger than an entry of the log would have to be staged.
const (
	maxTxns     = 2048
	maxTxnBytes = raftstore.MaxEntry * 15 / 16
)

// queuedTxns and queuedTxnBytes bound the transactions that wait on a server, and with them its memory.
const (
	queuedTxns     = 16 << 10
	queuedTxnBytes = 64 << 20
)

// txnJob is one waiting transaction.
type txnJob struct {
	txn   Txn
	size  int
	state atomic.Int32
	done  chan txnAnswer // holds one
	// guarded transactions may come to nothing when their entry is performed: they share it with none that are not.
	guarded bool
}

type txnAnswer struct {
	answer Answer
	err    error
}

func (j *txnJob) take() bool { return j.state.CompareAndSwap(waiting, taken) }

func (j *txnJob) reply(a Answer, err error) { j.done <- txnAnswer{a, err} }

// txnQueue holds transactions that wait for their turn; the one who decides takes many at once.
type txnQueue struct {
	mu    sync.Mutex
	list  []*txnJob
	bytes int
	// ready holds a token while the list is not empty.
	ready chan struct{}
}

func newTxnQueue() *txnQueue { return &txnQueue{ready: make(chan struct{}, 1)} }

// put appends jobs, or refuses all of them if too many wait.
func (q *txnQueue) put(jobs ...*txnJob) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, j := range jobs {
		n += j.size
	}
	if len(q.list)+len(jobs) > queuedTxns || (q.bytes+n > queuedTxnBytes && len(q.list) > 0) {
		return false
	}
	q.list, q.bytes = append(q.list, jobs...), q.bytes+n
	q.signalLocked()
	return true
}

func (q *txnQueue) signalLocked() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// empty tells whether nothing waits.
func (q *txnQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) == 0
}

// large tells whether so much waits that the next entry need not fill up.
func (q *txnQueue) large() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) >= maxTxns/4 || q.bytes >= maxTxnBytes/2
}

// take removes what fits into one entry, in order; at least one if any waits.
func (q *txnQueue) take(most, mostBytes int) []*txnJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.list) && n < most && (n == 0 || size+q.list[n].size <= mostBytes && q.list[n].guarded == q.list[0].guarded) {
		size += q.list[n].size
		n++
	}
	out := q.list[:n:n]
	q.list, q.bytes = q.list[n:], q.bytes-size
	if len(q.list) == 0 {
		q.list = nil
	} else {
		q.signalLocked()
	}
	return out
}

// SubmitTxn commits the transaction as a whole, or not at all, and returns its answer, which was decided on everything that was
// acknowledged before the call. On the leader it is applied when it is answered; on a follower it may show a moment later. While no
// leader is known it waits at most Config.TxnPatience. Errors: those of Submit, but no Conflict: conditions are the transaction's own.
func (s *Sequencer) SubmitTxn(ctx context.Context, txn Txn) (Answer, error) {
	if s.cfg.Txns == nil {
		return nil, apierrors.NewBadRequest("this server takes no transactions")
	}
	var limit <-chan time.Time
	for {
		changed := s.store.LeaderChanged()
		l := s.store.Leader()
		var last error
		if l.Self || (l.ID != "" && s.cfg.Forwarder != nil) {
			var a Answer
			if a, last = s.submitTxn(ctx, l, txn); !errors.Is(last, errAgain) {
				return a, last
			}
		}
		if limit == nil {
			timer := time.NewTimer(s.cfg.TxnPatience)
			defer timer.Stop()
			limit = timer.C
		}
		select {
		case <-changed:
		case <-time.After(retryEvery):
		case <-s.ended:
			return nil, apierrors.NewServiceUnavailable("this server is stopping; nothing was changed")
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader took the transaction before its time ran out; nothing was changed (%w): %w", last, ctx.Err())
		case <-limit:
			return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no leader within %s; nothing was changed (%v)", s.cfg.TxnPatience, last))
		}
	}
}

func (s *Sequencer) submitTxn(ctx context.Context, l raftstore.Leader, txn Txn) (Answer, error) {
	j := newTxnJob(txn)
	q := s.txns
	if !l.Self {
		q = s.remote
	}
	if !q.put(j) {
		return nil, tooManyTxns()
	}
	return s.awaitTxn(ctx, j)
}

func newTxnJob(txn Txn) *txnJob {
	return &txnJob{txn: txn, size: txn.Size() + 64, done: make(chan txnAnswer, 1)}
}

func tooManyTxns() error {
	return apierrors.NewTooManyRequests("too many writes are waiting already; try again", 1)
}

func (s *Sequencer) awaitTxn(ctx context.Context, j *txnJob) (Answer, error) {
	select {
	case a := <-j.done:
		return a.answer, a.err
	case <-s.ended:
	case <-ctx.Done():
	}
	if j.state.CompareAndSwap(waiting, abandoned) {
		return nil, apierrors.NewTimeoutError("the write waited too long for its turn; nothing was changed", 1)
	}
	select {
	case a := <-j.done:
		return a.answer, a.err
	default:
	}
	return nil, unknownOutcome(ctx.Err())
}

// txnVerdict is what a transaction is told when the entry that it was decided with, or behind, is committed. writes tells that the entry
// holds writes of it.
type txnVerdict struct {
	job    *txnJob
	answer Answer
	writes bool
}

// txnsTurn tells whether transactions are next: they take turns with requests, and both with leftovers.
func (t *tenure) txnsTurn() bool {
	// While an entry is under way the next one fills, unless it is large already: fewer entries cost less, and none waits longer than one.
	if t.s.txns.empty() || len(t.flights) > 0 && !t.s.txns.large() {
		return false
	}
	alone := len(t.s.queue) == 0 && t.next == nil && (t.streak < maxStreak || !t.restless())
	return !t.other || alone
}

// txnBatch decides the waiting transactions that fit into one entry, and proposes it.
func (t *tenure) txnBatch(ctx context.Context) {
	runtime.Gosched() // lets in those that are about to wait: fewer entries are less work
	jobs := t.s.txns.take(maxTxns, maxTxnBytes)
	t.decideTxns(ctx, slices.DeleteFunc(jobs, func(j *txnJob) bool { return !j.take() }))
}

// decideTxns decides transactions that were taken, and proposes their entry.
func (t *tenure) decideTxns(ctx context.Context, jobs []*txnJob) {
	kv := t.kv()
	f := &flight{nonce: t.s.store.Nonce(), raw: newRawLayer(nil), done: make(chan error, 1)}
	for _, j := range jobs {
		f.guarded = j.guarded
		before := len(kv.ops)
		answer, err := t.s.decider.txn(kv, j.txn)
		if err != nil {
			j.reply(nil, err)
			continue
		}
		f.txns = append(f.txns, txnVerdict{j, answer, len(kv.ops) > before})
	}
	if len(f.txns) == 0 {
		return
	}
	f.kv, f.last = kv.layer, kv.rev
	if f.empty = len(kv.ops) == 0; f.empty {
		t.confirm(ctx, f)
		return
	}
	triggers := t.objects(kv, f)
	t.start(ctx, f, raftstore.Entry{Base: kv.base, Time: t.clock.now().UnixNano(), Nonce: f.nonce, Ops: kv.ops})
	t.leftover = append(t.leftover, triggers...)
}

// objects notes which of the cluster's objects the transactions have written, so that the next decisions see them, and returns what they
// wake: controllers run in the next entry. Mostly there are none.
func (t *tenure) objects(kv *KV, f *flight) []controller.Trigger {
	for _, key := range kv.layer.within("/registry/", "/registry0") {
		k, err := object.ParsePath(key)
		if err != nil {
			continue // a key that names no object wakes nobody
		}
		c := cluster.Change{Key: k}
		if r := kv.layer.own[key]; r.Version > 0 {
			o, ok := cluster.Object(r)
			if !ok {
				continue
			}
			c.New = o
		}
		f.changes = append(f.changes, c)
	}
	if len(f.changes) == 0 {
		return nil
	}
	o := cluster.NewOverlay(t.head().reader)
	o.Apply(f.changes)
	woken, err := t.s.decider.triggers(o, changes(o))
	if err != nil {
		return nil // it is logged; the next tenure looks at everything
	}
	return woken
}

// txn runs one transaction, and takes back what it did if it says so, or panics.
func (d *decider) txn(kv *KV, txn Txn) (answer Answer, err error) {
	kv.begin()
	ok := false
	defer func() {
		if !ok {
			kv.undo()
		}
	}()
	defer d.recovered(&err)
	answer, ok = txn.Decide(kv)
	return answer, nil
}

// rejectTxns answers the transactions that wait on a server that does not lead: their callers ask the leader.
func (s *Sequencer) rejectTxns() {
	for !s.txns.empty() {
		for _, j := range s.txns.take(queuedTxns, queuedTxnBytes) {
			if j.take() {
				j.reply(nil, errAgain)
			}
		}
	}
}
