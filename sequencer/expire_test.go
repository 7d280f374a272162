package sequencer

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/raftstore"
)

// TestExpiryOfAnotherTermEndsNothing: what an earlier leadership of this server found to have run out may have been renewed by the leader between. It
// waited in the queue until the server led again.
func TestExpiryOfAnotherTermEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		ctx := context.Background()
		if _, err := r.store.Propose(ctx, raftstore.Entry{Base: r.store.View().Rev(), Ops: []raftstore.Op{
			raftstore.LeaseGrant(7, 600), {Kind: raftstore.Put, Key: "t/k", Value: []byte("v"), Lease: 7},
		}}); err != nil {
			t.Fatal(err)
		}
		l, _ := r.store.View().Lease(7)
		term := r.store.Leader().Term
		if err := r.seq.expire(ctx, []raftstore.Op{raftstore.LeaseRevoke(7, l.Granted, term-1)}); err == nil {
			t.Error("the expiry of an earlier term is done, so that nobody tries again")
		}
		if _, ok := r.store.View().Lease(7); !ok {
			t.Fatal("the expiry of an earlier term ended the lease")
		}
		if err := r.seq.expire(ctx, []raftstore.Op{raftstore.LeaseRevoke(7, l.Granted+1, term)}); err != nil {
			t.Errorf("the expiry of a lease that is gone: %v", err)
		}
		if _, ok := r.store.View().Lease(7); !ok {
			t.Fatal("the expiry of another lease ended this one")
		}
		if err := r.seq.expire(ctx, []raftstore.Op{raftstore.LeaseRevoke(7, l.Granted, term)}); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.store.View().Get("t/k"); ok {
			t.Error("the key outlived its lease")
		}
	})
}

// TestExpiryIsGuarded: the operation says which lease it ends, and in which term, for the term may end while the entry is on its way into the log. What
// it would do then is not what others in its entry were decided on: it shares none.
func TestExpiryIsGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log, jam, release := jammed(t, nil)
		if _, err := r.store.Propose(context.Background(), raftstore.Entry{Base: r.store.View().Rev(), Ops: []raftstore.Op{raftstore.LeaseGrant(7, 600)}}); err != nil {
			t.Fatal(err)
		}
		l, _ := r.store.View().Lease(7)
		term := r.store.Leader().Term
		tn := &tenure{s: r.seq, term: term}
		kv := tn.kv()
		if _, err := r.seq.decider.txn(kv, expiry{7, l.Granted, term}); err != nil {
			t.Fatal(err)
		}
		if want := raftstore.LeaseRevoke(7, l.Granted, term); len(kv.ops) != 1 || !reflect.DeepEqual(kv.ops[0], want) {
			t.Errorf("the expiry became %v, not %v", kv.ops, want)
		}
		jam()
		done := make(chan error, 4)
		put := func(key string) {
			go func() {
				_, err := r.seq.SubmitTxn(context.Background(), program{steps: []step{{key: key}}})
				done <- err
			}()
			time.Sleep(time.Millisecond)
		}
		put("t/0")
		put("t/1")
		go func() {
			done <- r.seq.expire(context.Background(), []raftstore.Op{raftstore.LeaseRevoke(7, l.Granted, term)})
		}()
		time.Sleep(time.Millisecond)
		put("t/2")
		before := r.store.Stats().LastIndex
		release()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := r.store.Stats().LastIndex - before; n < 4 {
			t.Errorf("an expiry between two writes shares their entry: %d entries", n)
		}
		r.stop()
		oneTenure(t, log)
	})
}
