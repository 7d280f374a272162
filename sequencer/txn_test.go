package sequencer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"pgregory.net/rapid"

	"reconcile/raftstore"
)

// step is one write of a test's transaction.
type step struct {
	key    string
	delete bool
}

// program is a transaction of steps that may fail in the end; its answer is what it saw of all keys after them.
type program struct {
	steps []step
	fails bool
	panic bool
}

// words is an answer.
type words string

func (w words) AppendTo(b []byte) []byte { return append(b, w...) }

func (p program) Decide(kv *KV) (Answer, bool) {
	for i, s := range p.steps {
		if s.delete {
			kv.Delete(s.key)
		} else {
			kv.Put(s.key, []byte(fmt.Sprint(i)), 0)
		}
	}
	if p.panic {
		panic("as the test wants")
	}
	return words(shownBy(kv, "", "")), !p.fails
}

func (program) AppendTo(b []byte) []byte { return b }
func (program) Size() int                { return 100 }

// shownBy is a span of a state as text: keys with version and revision of creation.
func shownBy(kv *KV, from, to string) string {
	var out []string
	for r := range kv.Range(from, to) {
		out = append(out, fmt.Sprintf("%s@%d:%d/%d", r.Key, r.ModRev, r.CreateRev, r.Version))
	}
	return strings.Join(out, " ")
}

// modelled is a key in the test's own idea of the state.
type modelled struct{ mod, create, version uint64 }

// TestTransactionsSeeThoseBeforeThem compares what transactions see and leave with a map, over batches that share entries, transactions that
// fail, and ones that panic.
func TestTransactionsSeeThoseBeforeThem(t *testing.T) {
	r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Txns = noCodec{} })
	rapid.Check(t, func(t *rapid.T) {
		v := r.store.View()
		model := map[string]modelled{}
		for rec := range v.Range("t/") {
			model[rec.Key] = modelled{rec.ModRev, rec.CreateRev, rec.Version}
		}
		key := rapid.Map(rapid.IntRange(0, 6), func(i int) string { return fmt.Sprintf("t/%d", i) })
		kv, rev := newKV(v, nil, v.Rev()), v.Rev()
		var ops []raftstore.Op
		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			p := program{fails: rapid.IntRange(0, 4).Draw(t, "fails") == 0, panic: rapid.IntRange(0, 9).Draw(t, "panics") == 0}
			next, wrote := maps.Clone(model), false
			for range rapid.IntRange(0, 3).Draw(t, "steps") {
				s := step{key: key.Draw(t, "key"), delete: rapid.Bool().Draw(t, "delete")}
				if slices.ContainsFunc(p.steps, func(o step) bool { return o.key == s.key }) {
					continue // etcd's transactions write a key once
				}
				p.steps = append(p.steps, s)
				was, had := next[s.key]
				switch {
				case s.delete && had:
					delete(next, s.key)
					wrote = true
				case !s.delete:
					if !had {
						was.create = rev + 1
					}
					next[s.key] = modelled{rev + 1, was.create, was.version + 1}
					wrote = true
				}
			}
			answer, err := r.seq.decider.txn(kv, p)
			if (err != nil) != p.panic {
				t.Fatalf("error %v, panics %t", err, p.panic)
			}
			if !p.fails && !p.panic {
				if model = next; wrote {
					rev++
				}
				if have := string(answer.(words)); !strings.Contains(have, told(model)) {
					t.Fatalf("the transaction saw %q, not %q", have, told(model))
				}
			}
			if have := shownBy(kv, "t/", "t0"); have != told(model) || kv.rev != rev {
				t.Fatalf("after it the state is %q at %d, not %q at %d", have, kv.rev, told(model), rev)
			}
			ops = kv.ops
		}
		if len(ops) == 0 {
			return
		}
		if _, err := r.store.Propose(context.Background(), raftstore.Entry{Base: v.Rev(), Ops: ops}); err != nil {
			t.Fatal(err)
		}
		if have := shownBy(ReadKV(r.store.View()), "t/", "t0"); have != told(model) {
			t.Fatalf("the store holds %q, not %q", have, told(model))
		}
	})
}

func told(m map[string]modelled) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s@%d:%d/%d", k, m[k].mod, m[k].create, m[k].version))
	}
	return strings.Join(out, " ")
}

// noCodec is for transactions that are never sent.
type noCodec struct{}

func (noCodec) Txn([]byte) (Txn, error)       { return nil, errors.New("nothing is sent") }
func (noCodec) Answer([]byte) (Answer, error) { return nil, errors.New("nothing is sent") }

// TestManyTransactionsShareEntries: a revision each, few entries.
func TestManyTransactionsShareEntries(t *testing.T) {
	r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Txns = noCodec{} })
	before, index := r.store.View().Rev(), r.store.Stats().LastIndex
	const n = 500
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := r.seq.SubmitTxn(context.Background(), program{steps: []step{{key: fmt.Sprint("many/", i)}}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := r.store.View().Rev() - before; took != n {
		t.Errorf("%d transactions took %d revisions", n, took)
	}
	if entries := r.store.Stats().LastIndex - index; entries > n/2 {
		t.Errorf("%d transactions took %d entries", n, entries)
	}
}

// TestTransactionQueueIsBounded: beyond the bound callers are told, and memory stays bounded.
func TestTransactionQueueIsBounded(t *testing.T) {
	q := newTxnQueue()
	for range queuedTxns {
		if !q.put(newTxnJob(program{})) {
			t.Fatal("a queue that is not full refuses")
		}
	}
	if q.put(newTxnJob(program{})) {
		t.Error("a full queue takes more")
	}
	if n := len(q.take(maxTxns, maxTxnBytes)); n == 0 || n*164 > maxTxnBytes+164 {
		t.Errorf("an entry takes %d", n)
	}
	if !q.put(newTxnJob(program{})) {
		t.Error("a queue that has room again refuses")
	}
}

// TestErrorsComeBackAsTheyWere: what the leader says of a transaction is what a follower's client hears.
func TestErrorsComeBackAsTheyWere(t *testing.T) {
	s := &Sequencer{cfg: Config{Txns: noCodec{}}}
	for name, tc := range map[string]struct {
		err  error
		same func(error) bool
	}{
		"a full disk":    {fmt.Errorf("propose: %w: 3 MiB are free", raftstore.ErrNoSpace), func(err error) bool { return errors.Is(err, raftstore.ErrNoSpace) }},
		"no leader":      {apierrors.NewServiceUnavailable("this server is stopping"), apierrors.IsServiceUnavailable},
		"a bad request":  {apierrors.NewBadRequest("no such thing"), apierrors.IsBadRequest},
		"too many":       {tooManyTxns(), apierrors.IsTooManyRequests},
		"not the leader": {errAgain, func(err error) bool { return errors.Is(err, errAgain) }},
		"unknown":        {unknownOutcome(errors.New("lost")), apierrors.IsTimeout},
		"a fault": {errors.New("a controller panicked"), func(err error) bool {
			return !apierrors.IsBadRequest(err) && !apierrors.IsTimeout(err) && strings.Contains(err.Error(), "a controller panicked")
		}},
	} {
		frame := appendAnswer(binary.AppendUvarint([]byte{txnFrame}, 1), &txnAnswer{err: tc.err})
		j := newTxnJob(program{})
		if err := s.readAnswers(frame, []*txnJob{j}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a := <-j.done; a.err == nil || !tc.same(a.err) {
			t.Errorf("%s: %q came back as %v", name, tc.err, a.err)
		}
	}
}
