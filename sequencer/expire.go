package sequencer

import (
	"context"
	"errors"
	"fmt"

	"reconcile/raftstore"
)

// expiry is the end of a lease that ran out, as the leader of a term found: a transaction of that leader's own.
type expiry struct {
	id            int64
	granted, term uint64
}

// Decide implements Txn. A lease that was ended, or ended and granted again, since it ran out is left alone, and so is every one if this server has lost
// the lead since: whoever led may have renewed it. The operation says all that too, for the lead may be lost while the entry is on its way.
func (e expiry) Decide(kv *KV) (Answer, bool) {
	if kv.term != e.term {
		return tooLate{}, false
	}
	l, ok := kv.view.Lease(e.id)
	if !ok || l.Granted != e.granted || !kv.HasLease(e.id) {
		return nil, false
	}
	kv.revoke(raftstore.LeaseRevoke(e.id, e.granted, e.term), e.id)
	return nil, true
}

// tooLate is the answer to an expiry of an earlier term.
type tooLate struct{}

// AppendTo implements Answer: it is never sent.
func (tooLate) AppendTo(b []byte) []byte { return b }

// AppendTo implements Txn: it is never sent.
func (expiry) AppendTo(b []byte) []byte { return b }

// Size implements Txn: deletions of what hangs on it are small.
func (expiry) Size() int { return 256 }

// expire ends leases that the store found to have run out, each at a revision of its own and in order with all other writes. It is
// raftstore.Lessor's revoke.
func (s *Sequencer) expire(ctx context.Context, ops []raftstore.Op) error {
	var jobs []*txnJob
	for _, op := range ops {
		id, granted, term, ok := op.Revokes()
		if !ok {
			return fmt.Errorf("end leases: an operation of kind %d ends none", op.Kind)
		}
		j := newTxnJob(expiry{id, granted, term})
		j.guarded = true
		jobs = append(jobs, j)
	}
	if !s.txns.put(jobs...) {
		return tooManyTxns()
	}
	var errs []error
	for _, j := range jobs {
		a, err := s.awaitTxn(ctx, j)
		if _, late := a.(tooLate); late {
			err = fmt.Errorf("end leases: %w: they ran out in an earlier term", raftstore.ErrNotLeader)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// CallLeases implements raftstore.LeasePeer: renewals go to the leader the way of writes.
func (s *Sequencer) CallLeases(ctx context.Context, leader raftstore.Leader, call raftstore.LeaseCall) (raftstore.LeaseReply, error) {
	r, err := s.send(ctx, leader, message{Leases: &call})
	switch {
	case errors.Is(err, errAgain):
		return raftstore.LeaseReply{}, fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
	case err != nil:
		return raftstore.LeaseReply{}, err
	case r.Leases == nil:
		return raftstore.LeaseReply{}, errors.New("the leader's answer is empty")
	}
	return *r.Leases, nil
}
