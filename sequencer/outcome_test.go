package sequencer

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/raftstore"
)

// The store remembers a bounded number of outcomes: a write whose outcome may be forgotten may have been committed, and must not be tried
// again. One that the store would still know, and does not, was not committed.
func TestForgottenOutcomeIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		cause := fmt.Errorf("propose: %w", raftstore.ErrUnknown)
		resolve := func(nonce, last uint64) error {
			j := &job{req: &Request{}, answer: make(chan answer, 1), leave: func() {}}
			f := &flight{nonce: nonce, last: last, answers: []verdict{{job: j, writes: true}}}
			r.seq.resolve(0, f, cause)
			return (<-j.answer).err
		}
		entry := func() (nonce, last uint64) {
			base, nonce := r.store.View().Rev(), r.store.Nonce()
			e := raftstore.Entry{Base: base, Nonce: nonce, Ops: []raftstore.Op{{Kind: raftstore.Put, Key: "/git/x", Value: []byte("v")}}}
			out, err := r.store.Propose(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			return nonce, out.Last
		}
		never := r.store.Nonce()
		if err := resolve(never, r.store.View().Rev()+1); !errors.Is(err, errAgain) {
			t.Errorf("a write that was never proposed: %v, want another try", err)
		}
		first, last := entry()
		if err := resolve(first, last); err != nil {
			t.Errorf("a write that was committed: %v", err)
		}
		for range 4096 {
			entry()
		}
		if err := resolve(first, last); !apierrors.IsTimeout(err) {
			t.Errorf("a write that was committed 4,096 entries ago: %v, want that its outcome is unknown", err)
		} else if _, suggests := apierrors.SuggestsClientDelay(err); suggests {
			t.Error("the answer asks for another try")
		}
		if err := resolve(never, r.store.View().Rev()+1); !errors.Is(err, errAgain) {
			t.Errorf("a write on the newest revision that was never proposed: %v, want another try", err)
		}
		if second, last := entry(); resolve(second, last) != nil {
			t.Error("a newer write that was committed is not found")
		}
	})
}
