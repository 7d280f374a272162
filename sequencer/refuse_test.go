package sequencer

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/controller"
	"reconcile/raftstore"
)

// badLease is a transaction that nothing looked at before the store does, which refuses its entry.
type badLease struct{}

func (badLease) Decide(kv *KV) (Answer, bool) { kv.Grant(-5, 60); return words("granted"), true }
func (badLease) AppendTo(b []byte) []byte     { return b }
func (badLease) Size() int                    { return 100 }

// jammed is a rig whose disk stands still between jam and release, and its log.
func jammed(t *testing.T, change func(*Config)) (r *rig, log *bytes.Buffer, jam, release func()) {
	var stuck atomic.Bool
	free := make(chan struct{})
	storage := raftstore.MemoryStorage()
	storage.Intercept(func(bool) error {
		if stuck.Load() {
			<-free
		}
		return nil
	})
	log = &bytes.Buffer{}
	r = newRig(t, storage, func(c *Config) {
		c.Txns = noCodec{}
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		if change != nil {
			change(c)
		}
	})
	return r, log, func() { stuck.Store(true) }, func() { stuck.Store(false); close(free) }
}

// oneTenure fails the test if the leader began anew. The rig must have stopped.
func oneTenure(t *testing.T, log *bytes.Buffer) {
	t.Helper()
	if n := strings.Count(log.String(), "this server leads"); n != 1 {
		t.Errorf("the leader began %d times:\n%s", n, log)
	}
}

// TestRefusedTransactionIsAlone: of the transactions that share an entry which the store refuses, and of those in the entry behind it, only the one
// that it is refused for fails.
func TestRefusedTransactionIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log, jam, release := jammed(t, nil)
		jam()
		const n = 300
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				txn := Txn(program{steps: []step{{key: fmt.Sprint("k/", i)}}})
				if i == 100 {
					txn = badLease{}
				}
				_, errs[i] = r.seq.SubmitTxn(context.Background(), txn)
			})
			if i%100 == 0 {
				time.Sleep(time.Millisecond) // so that there are entries, and the bad one is not in the first
			}
		}
		time.Sleep(time.Second)
		before := r.store.Stats().LastIndex
		release()
		wg.Wait()
		for i, err := range errs {
			if i == 100 {
				if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "cannot be granted") {
					t.Errorf("the bad transaction is told: %v", err)
				}
				continue
			}
			if err != nil {
				t.Errorf("transaction %d is told: %v", i, err)
			}
		}
		keys := 0
		for range r.store.View().Range("k/") {
			keys++
		}
		if keys != n-1 {
			t.Errorf("%d keys were written by %d good transactions", keys, n-1)
		}
		if took := r.store.Stats().LastIndex - before; took > 30 {
			t.Errorf("it took %d entries to find the bad one of %d", took, n)
		}
		r.stop()
		oneTenure(t, log)
	})
}

// TestRefusedRequestIsAlone is the same for requests: a push whose blob was forgotten since it was looked for.
func TestRefusedRequestIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log, jam, release := jammed(t, nil)
		r.seq.decider.hasBlob = func(string) bool { return true }
		jam()
		digest := raftstore.Digest([]byte("nobody staged this"))
		var wg sync.WaitGroup
		submit := func(req Request, want func(error) bool) {
			wg.Go(func() {
				if _, err := r.seq.Submit(context.Background(), req); !want(err) {
					t.Errorf("%s is told: %v", req.User, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		fine := func(err error) bool { return err == nil }
		submit(Request{User: "before", Ops: []Op{write(Create, configMap("a", "1"))}}, fine)
		submit(Request{User: "bad", Source: "git", Blobs: []string{digest}, Raw: []Raw{{Key: "/git/packs/1", Value: []byte(digest)}}}, func(err error) bool {
			return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "not complete")
		})
		for i := range 20 { // in the entry behind it
			submit(Request{User: fmt.Sprint("after ", i), Ops: []Op{write(Create, configMap(fmt.Sprint("b", i), "1"))}}, fine)
		}
		release()
		wg.Wait()
		r.stop()
		oneTenure(t, log)
	})
}

// hollow is a Settler that makes of one key something that cannot be stored.
type hollow struct {
	Settler
	at string
}

func (h hollow) Settle(o controller.Overlay, triggers []controller.Trigger, now time.Time, budget int, admit controller.Admit) controller.Outcome {
	out := h.Settler.Settle(o, triggers, now, budget, admit)
	for _, t := range triggers {
		if t.Key.Name == h.at {
			o.Put(&unstorable{*configMap("unstorable", "1")})
			out.Ops++
		}
	}
	return out
}

// unstorable cannot be encoded: its type is of no kind.
type unstorable struct{ corev1.ConfigMap }

// TestUnstorableIsAlone: a request, or a leftover, whose consequences cannot be encoded does not take others with it.
func TestUnstorableIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log, jam, release := jammed(t, func(c *Config) { c.Settler = hollow{c.Settler, "bad"} })
		jam()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				name := fmt.Sprint("c", i)
				if i == 10 {
					name = "bad"
				}
				if _, err := r.submit(write(Create, configMap(name, "1"))); (err != nil) != (i == 10) {
					t.Errorf("%s is told: %v", name, err)
				}
			})
			if i == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		release()
		wg.Wait()
		time.Sleep(2 * time.Minute) // until the wakes have run
		for i := range 20 {
			s, ok := r.get("secrets", fmt.Sprint("c", i))
			if late := ok && s.(*corev1.Secret).Data["late"] != nil; late != (i != 10) {
				t.Errorf("c%d was settled when it was due: %v", i, late)
			}
		}
		r.stop()
		oneTenure(t, log)
	})
}
