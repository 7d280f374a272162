package sequencer

import (
	"context"
	"errors"
	"fmt"

	"reconcile/raftstore"
)

// expiry is the end of a lease that ran out: a transaction of the leader's own.
type expiry struct {
	id      int64
	granted uint64
}

// Decide implements Txn. A lease that was ended, or ended and granted again, since it ran out is left alone.
func (e expiry) Decide(kv *KV) (Answer, bool) {
	l, ok := kv.view.Lease(e.id)
	if !ok || l.Granted != e.granted || !kv.HasLease(e.id) {
		return nil, false
	}
	kv.Revoke(e.id)
	return nil, true
}

// AppendTo implements Txn: it is never sent.
func (expiry) AppendTo(b []byte) []byte { return b }

// Size implements Txn: deletions of what hangs on it are small.
func (expiry) Size() int { return 256 }

// expire ends leases that the store found to have run out, each at a revision of its own and in order with all other writes. It is
// raftstore.Lessor's revoke.
func (s *Sequencer) expire(ctx context.Context, ops []raftstore.Op) error {
	var jobs []*txnJob
	for _, op := range ops {
		id, granted, ok := op.Revokes()
		if !ok {
			return fmt.Errorf("end leases: an operation of kind %d ends none", op.Kind)
		}
		jobs = append(jobs, newTxnJob(expiry{id, granted}))
	}
	if !s.txns.put(jobs...) {
		return tooManyTxns()
	}
	var errs []error
	for _, j := range jobs {
		if _, err := s.awaitTxn(ctx, j); err != nil {
			errs = append(errs, err)
		}
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
