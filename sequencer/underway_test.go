package sequencer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func takesTxns(c *Config) { c.Txns = noCodec{} }

// A raw write is compared with what a transaction writes whose entry is under way: the fault suite found that two compare-and-swaps of one
// key, one by each API, both were told that they had won.
func TestRawWritesSeeTransactionsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := stuckRig(t, takesTxns)
		defer r.stop()
		txn, raw := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := r.seq.SubmitTxn(context.Background(), program{steps: []step{{key: "/x"}}})
			txn <- err
		}()
		time.Sleep(time.Second)
		go func() {
			_, err := r.seq.Submit(context.Background(), Request{Raw: []Raw{{Key: "/x", Value: []byte("mine"), Check: true}}})
			raw <- err
		}()
		time.Sleep(time.Second)
		release()
		if err := <-txn; err != nil {
			t.Fatal(err)
		}
		if err := <-raw; !errors.Is(err, ErrStale) {
			t.Errorf("a raw write that wants the key absent, behind a transaction that writes it: %v, want ErrStale", err)
		}
	})
}

// Leases that an entry under way makes or ends take no revision, and are seen all the same: else the store would refuse the next entry, which
// names a lease that is gone, or grants one that is there, with what others wrote in it.
func TestTransactionsSeeLeasesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := stuckRig(t, takesTxns)
		defer r.stop()
		ask := func(do func(kv *KV) string) chan string {
			answer := make(chan string, 1)
			go func() {
				a, err := r.seq.SubmitTxn(context.Background(), leaseTxn(do))
				if err != nil {
					answer <- err.Error()
					return
				}
				answer <- string(a.(words))
			}()
			time.Sleep(time.Second)
			return answer
		}
		granted := ask(func(kv *KV) string { kv.Grant(1, 60); return "granted" })
		there := ask(func(kv *KV) string { return fmt.Sprint(kv.HasLease(1)) })
		release()
		if a, b := <-granted, <-there; a != "granted" || b != "true" {
			t.Errorf("a lease was %s, and whether it is there was answered with %s", a, b)
		}
	})
}

// leaseTxn is a transaction that fills an entry, so that the next one is decided while it is under way.
type leaseTxn func(kv *KV) string

func (l leaseTxn) Decide(kv *KV) (Answer, bool) { return words(l(kv)), true }
func (leaseTxn) AppendTo(b []byte) []byte       { return b }
func (leaseTxn) Size() int                      { return maxTxnBytes }
