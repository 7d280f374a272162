package testcluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// call is one operation on one register: a read, or a write of a value.
type call struct {
	key, write string
}

// answer is what a read saw.
type answer struct {
	value   string
	unknown bool
}

// register is what porcupine compares with: a key holds the last value written.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(call).key
			parts[k] = append(parts[k], op)
		}
		var out [][]porcupine.Operation
		for _, p := range parts {
			out = append(out, p)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(call)
		if in.write != "" {
			return true, in.write
		}
		return output.(answer).value == state.(string), state
	},
}

// A read behind a barrier, on any server, sees every write that was acknowledged before it began, whatever happens to leaders.
func TestReadsAndWritesAreLinearizable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		const keys = 5
		for k := range keys {
			c.Must(testcluster.Create(reg(fmt.Sprint(k), "")))
		}
		var mu sync.Mutex
		var clock atomic.Int64
		var history []porcupine.Operation
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for client := range 6 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					op, ok := operate(ctx, c, &clock, client, n, fmt.Sprint(rand.IntN(keys)))
					mu.Lock()
					if ok {
						history = append(history, op)
					}
					mu.Unlock()
					time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
				}
			})
		}
		for round := range 6 {
			time.Sleep(time.Second)
			i := c.Leader().Index
			if round%3 == 0 {
				for j := range 3 {
					c.Kill(j)
				}
				for j := range 3 {
					c.Restart(j)
				}
				continue
			}
			if round%3 == 1 {
				c.Kill(i)
			} else {
				c.Isolate(i)
			}
			time.Sleep(2 * time.Second)
			c.Restart(i)
			c.Heal()
		}
		stop()
		wg.Wait()
		if len(history) < 500 {
			t.Errorf("only %d operations: the test proves little", len(history))
		}
		if res := porcupine.CheckOperationsTimeout(register, history, time.Minute); res != porcupine.Ok {
			t.Errorf("the history of %d operations is not linearizable: %s", len(history), res)
		}
		t.Logf("%d operations", len(history))
	})
}

func reg(key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "reg" + key}, Data: map[string]string{"value": value}}
}

// operate does one read or write by one server. A write of unknown outcome lasts for ever; what certainly did not happen is left out.
// The clock counts calls and returns: within the bubble many happen at the same nanosecond.
func operate(ctx context.Context, c *testcluster.Cluster, clock *atomic.Int64, client, n int, key string) (porcupine.Operation, bool) {
	s := c.Server(rand.IntN(3))
	op := porcupine.Operation{ClientId: client, Input: call{key: key}, Call: clock.Add(1)}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if rand.IntN(2) == 0 {
		if err := s.Seq().Barrier(ctx); err != nil {
			return op, false
		}
		o, ok := s.View().Get(object.Key{Resource: "configmaps", Namespace: "d", Name: "reg" + key})
		if !ok {
			return op, false
		}
		op.Output, op.Return = answer{value: o.(*corev1.ConfigMap).Data["value"]}, clock.Add(1)
		return op, true
	}
	value := fmt.Sprintf("%d.%d", client, n)
	next := reg(key, value)
	op.Input = call{key: key, write: value}
	_, err := s.Seq().Submit(ctx, sequencer.Request{Ops: []sequencer.Op{{Verb: sequencer.Update, Key: object.KeyOf(next), Object: next}}})
	op.Output, op.Return = answer{}, clock.Add(1)
	if apierrors.IsTimeout(err) {
		op.Output, op.Return = answer{unknown: true}, int64(1)<<62
		return op, true
	}
	return op, err == nil
}
