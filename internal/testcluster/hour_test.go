package testcluster_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// TestAnHourOfFaults runs the whole store for an hour of its own time: three members, clients that get, create, update, swap and
// delete by any of them, a watch, and one or two random faults at a time. The history must be linearizable, refusals included; the
// watch must have every acknowledged write, in order, once, with no gap; the members must be equal in the end.
//
// HOUR_SEED repeats a run's choices; raft's own timeouts are random in any case.
func TestAnHourOfFaults(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("HOUR_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("HOUR_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{Change: func(cfg *raftstore.Config) {
			cfg.Heartbeat = time.Second
			cfg.SnapshotEntries, cfg.TrailingEntries, cfg.SnapshotInterval = 300, 100, 10*time.Second
		}})
		obs := c.Observe("configmaps", c.Leader().View().Rev())
		h := &hour{c: c, began: time.Now(), acked: map[string]string{}}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for client := range 4 {
			r := rand.New(rand.NewPCG(seed, uint64(client)))
			wg.Go(func() { h.client(ctx, client, r) })
		}
		kinds := h.faults(rand.New(rand.NewPCG(seed, 1<<32)), time.Hour)
		stop()
		wg.Wait()
		c.Settled()
		time.Sleep(5 * time.Second)
		obs.Stop()
		h.checkWatch(t, obs)
		t.Logf("%d operations, %d of unknown outcome, %d refused for want of a leader, %d events, %d lists; faults %v",
			len(h.history), h.unknown, h.refused, len(obs.Events), len(obs.Relists), kinds)
		if len(h.history) < 5000 || len(kinds) < len(faultKinds) {
			t.Errorf("%d operations under %d kinds of faults: the test proves little", len(h.history), len(kinds))
		}
		for _, why := range h.odd {
			t.Error(why)
		}
		if res := porcupine.CheckOperationsTimeout(objectModel, h.history, time.Minute); res != porcupine.Ok {
			t.Errorf("the history is not linearizable: %s", res)
		}
	})
}

// hour is the workload and what it saw.
type hour struct {
	c     *testcluster.Cluster
	began time.Time
	clock atomic.Int64 // numbers calls and returns: within the bubble many happen at the same nanosecond

	mu      sync.Mutex
	history []porcupine.Operation
	// acked is the resourceVersion of every acknowledged write, with what it wrote.
	acked            map[string]string
	unknown, refused int
	odd              []string
}

// act is one operation on one object; got what came of it. old is the value that a swap expects.
type act struct{ verb, key, old, value string }

type got struct {
	// code is ok, exists, absent, conflict or unknown; value what a get saw.
	code, value string
}

// objectModel is what porcupine compares with: a key's state is the value of its object, or nothing.
var objectModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(act).key
			parts[k] = append(parts[k], op)
		}
		return slices.Collect(maps.Values(parts))
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(string), input.(act), output.(got)
		want, next := got{code: "ok"}, s
		switch in.verb {
		case "get":
			want.value = s
			if s == "" {
				want.code = "absent"
			}
		case "create":
			if next = in.value; s != "" {
				want.code, next = "exists", s
			}
		default: // update, swap, delete
			switch {
			case s == "":
				want.code = "absent"
			case in.verb == "swap" && s != in.old:
				want.code = "conflict"
			default:
				next = in.value
			}
		}
		return out.code == "unknown" || out == want, next
	},
}

// client does one operation after another until ctx ends. Keys are few at a time and change, so that histories stay short.
func (h *hour) client(ctx context.Context, id int, r *rand.Rand) {
	known := map[string]*corev1.ConfigMap{} // the last state of an object that this client saw
	for n := 0; ctx.Err() == nil; n++ {
		a := act{key: fmt.Sprintf("e%02d-%d", int(time.Since(h.began)/(2*time.Minute)), r.IntN(4))}
		a.verb = []string{"get", "get", "get", "create", "update", "swap", "swap", "swap", "delete"}[r.IntN(9)]
		if last := known[a.key]; a.verb == "swap" {
			if last == nil {
				a.verb = "create"
			} else {
				a.old = last.Data["value"]
			}
		}
		if a.verb != "get" && a.verb != "delete" {
			a.value = fmt.Sprintf("%d.%d", id, n)
		}
		op := porcupine.Operation{ClientId: id, Input: a, Call: h.clock.Add(1)}
		out, state := h.do(ctx, r.IntN(3), a, known[a.key])
		op.Output, op.Return = out, h.clock.Add(1)
		h.note(op, out)
		if known[a.key] = state; state == nil {
			delete(known, a.key)
		}
		select {
		case <-time.After(time.Duration(200+r.IntN(800)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (h *hour) note(op porcupine.Operation, out got) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch out.code {
	case "refused":
		h.refused++
		return
	case "unknown":
		h.unknown++
		if op.Input.(act).verb == "get" {
			return
		}
		op.Return = 1 << 62 // it may still happen at any time
	}
	h.history = append(h.history, op)
}

// do performs an operation by one server, and returns what came of it and the object's state as far as it is known now.
func (h *hour) do(ctx context.Context, server int, a act, last *corev1.ConfigMap) (got, *corev1.ConfigMap) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := h.c.Server(server)
	next := configMap(a.key)
	next.Data = map[string]string{"value": a.value}
	op := sequencer.Op{Key: object.KeyOf(next), Object: next}
	switch a.verb {
	case "get":
		return read(ctx, s, op.Key)
	case "create":
		op.Verb = sequencer.Create
	case "update":
		op.Verb = sequencer.Update
	case "swap":
		op.Verb, op.ResourceVersion = sequencer.Update, last.ResourceVersion
	case "delete":
		op.Verb, op.Object = sequencer.Delete, nil
	}
	res, err := s.Seq().Submit(ctx, sequencer.Request{Ops: []sequencer.Op{op}})
	switch {
	case err == nil && a.verb == "delete":
		return got{code: "ok"}, nil
	case err == nil:
		cm := res.Objects[0].(*corev1.ConfigMap)
		h.mu.Lock()
		h.acked[cm.ResourceVersion] = a.key + "=" + a.value
		h.mu.Unlock()
		return got{code: "ok"}, cm
	case apierrors.IsAlreadyExists(err):
		return got{code: "exists"}, last
	case apierrors.IsNotFound(err):
		return got{code: "absent"}, nil
	case apierrors.IsConflict(err):
		return got{code: "conflict"}, nil
	case apierrors.IsTimeout(err):
		return got{code: "unknown"}, nil
	case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err):
		return got{code: "refused"}, last
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.odd = append(h.odd, fmt.Sprintf("%s %s by s%d: %v", a.verb, a.key, server, err))
	return got{code: "refused"}, last
}

func read(ctx context.Context, s *testcluster.Server, key object.Key) (got, *corev1.ConfigMap) {
	if err := s.Seq().Barrier(ctx); err != nil {
		return got{code: "refused"}, nil
	}
	o, ok := s.View().Get(key)
	if !ok {
		return got{code: "absent"}, nil
	}
	cm := o.(*corev1.ConfigMap)
	return got{code: "ok", value: cm.Data["value"]}, cm
}

// faultKinds begin a fault at a server and return what ends it.
var faultKinds = map[string]func(c *testcluster.Cluster, r *rand.Rand, i int) (end func()){
	"isolated": func(c *testcluster.Cluster, _ *rand.Rand, i int) func() { c.Isolate(i); return c.Heal },
	"silent":   func(c *testcluster.Cluster, _ *rand.Rand, i int) func() { c.Silence(i); return c.Heal },
	"deaf to one": func(c *testcluster.Cluster, r *rand.Rand, i int) func() {
		c.CutOneWay((i+1+r.IntN(2))%3, i)
		return c.Heal
	},
	"mute to one": func(c *testcluster.Cluster, r *rand.Rand, i int) func() {
		c.CutOneWay(i, (i+1+r.IntN(2))%3)
		return c.Heal
	},
	"killed": func(c *testcluster.Cluster, _ *rand.Rand, i int) func() { c.Kill(i); return func() { c.Restart(i) } },
	"all killed": func(c *testcluster.Cluster, _ *rand.Rand, _ int) func() {
		for j := range 3 {
			c.Kill(j)
		}
		return func() {
			for j := range 3 {
				c.Restart(j)
			}
		}
	},
	"slow disk": func(c *testcluster.Cluster, r *rand.Rand, i int) func() {
		c.SlowDisk(i, time.Duration(20+r.IntN(1500))*time.Millisecond)
		return func() { c.SlowDisk(i, 0) }
	},
	"full disk": func(c *testcluster.Cluster, _ *rand.Rand, i int) func() {
		c.FillDisk(i)
		return func() { c.Kill(i); c.Restart(i) }
	},
	"clock jumps": func(c *testcluster.Cluster, r *rand.Rand, i int) func() {
		c.Skew(i, time.Duration(r.IntN(7200)-3600)*time.Second)
		return func() { c.Skew(i, 0) }
	},
}

// faults makes one or two at a time, mostly to the leader, until the time is over, and counts them.
func (h *hour) faults(r *rand.Rand, long time.Duration) map[string]int {
	names := slices.Sorted(maps.Keys(faultKinds))
	count := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end); {
		time.Sleep(time.Duration(2+r.IntN(6)) * time.Second)
		var heal []func()
		for range 1 + r.IntN(2) {
			name, i := names[r.IntN(len(names))], r.IntN(3)
			for j := range 3 {
				if r.IntN(2) == 0 && h.c.Server(j).Running() && h.c.Server(j).Store().Leader().Self {
					i = j
				}
			}
			count[name]++
			heal = append(heal, faultKinds[name](h.c, r, i))
			time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
		}
		time.Sleep(time.Duration(500+r.IntN(12000)) * time.Millisecond)
		for _, f := range heal {
			f()
		}
		h.c.Heal()
	}
	return count
}

// checkWatch compares the events with each other, with the acknowledged writes and with the state in the end.
func (h *hour) checkWatch(t *testing.T, obs *testcluster.Observer) {
	t.Helper()
	if obs.Fault != nil {
		t.Error(obs.Fault)
	}
	if len(obs.Relists) > 20 {
		t.Errorf("the history did not reach back %d times", len(obs.Relists))
	}
	seen := map[string]int{}
	now := map[string]string{} // the resourceVersion of each object after the events so far
	relists := obs.Relists
	for i, e := range obs.Events {
		for len(relists) > 0 && relists[0].Before <= i {
			now = versions(relists[0].Objects)
			relists = relists[1:]
		}
		name, prev := e.Object.GetName(), ""
		if e.Prev != nil {
			prev = e.Prev.GetResourceVersion()
		}
		if have := now[name]; have != prev {
			t.Fatalf("an event is lost: %s %s at %d follows %q, the event before left %q", e.Type, name, e.Rev, prev, have)
		}
		rv := e.Object.GetResourceVersion()
		seen[rv]++
		if now[name] = rv; e.Type == cluster.Deleted {
			delete(now, name)
		}
	}
	for rv, what := range h.acked {
		if seen[rv] != 1 && (seen[rv] != 0 || !skipped(obs, rv)) {
			t.Errorf("the acknowledged %s at %s was seen %d times", what, rv, seen[rv])
		}
	}
	for _, l := range relists { // after the last event
		now = versions(l.Objects)
	}
	have := versions(slices.Collect(h.c.Leader().View().List("configmaps", "d")))
	if !maps.Equal(now, have) {
		t.Errorf("after all events there should be %v, and there is %v", now, have)
	}
}

// versions are the objects' resourceVersions by name.
func versions(list []object.Object) map[string]string {
	out := map[string]string{}
	for _, o := range list {
		out[o.GetName()] = o.GetResourceVersion()
	}
	return out
}

// skipped tells whether a list took the place of the events around a revision.
func skipped(obs *testcluster.Observer, resourceVersion string) bool {
	rev, err := strconv.ParseUint(resourceVersion, 10, 64)
	for _, l := range obs.Relists {
		if err == nil && l.After < rev && rev <= l.Rev {
			return true
		}
	}
	return false
}
