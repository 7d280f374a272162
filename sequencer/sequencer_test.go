package sequencer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// copier is a controller that keeps a Secret of the same name beside every ConfigMap, and one Event a minute after.
type copier struct{}

func (copier) Name() string      { return "copier" }
func (copier) Watches() []string { return []string{"configmaps", "secrets"} }
func (copier) Keys(_ controller.View, ch controller.Change, emit func(object.Key)) {
	emit(object.Key{Resource: "configmaps", Namespace: ch.Key.Namespace, Name: ch.Key.Name})
}

func (copier) Reconcile(v controller.View, k object.Key, now time.Time) (controller.Result, error) {
	secret := object.Key{Resource: "secrets", Namespace: k.Namespace, Name: k.Name}
	o, ok := v.Get(k)
	if !ok {
		return controller.Result{Delete: []controller.Deletion{{Key: secret}}}, nil
	}
	cm := o.(*corev1.ConfigMap)
	if cm.Data["panic"] != "" {
		panic("told to")
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name, UID: controller.HashUID(string(cm.UID))}}
	if live, ok := v.Get(secret); ok {
		s = object.Copy(live).(*corev1.Secret)
	}
	s.Data = map[string][]byte{"v": []byte(cm.Data["v"])}
	at := cm.CreationTimestamp.Add(time.Minute)
	if !now.Before(at) {
		s.Data["late"] = []byte("yes")
		return controller.Result{Put: []object.Object{s}}, nil
	}
	return controller.Result{Put: []object.Object{s}, Wake: at}, nil
}

// rig is one server with a sequencer that leads.
type rig struct {
	t     testing.TB
	store *raftstore.Store
	seq   *Sequencer
	stop  func()
}

func newRig(t testing.TB, storage *raftstore.Storage, change func(*Config)) *rig {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: storage, ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: store, Settler: Controllers{controller.SetOf(copier{})}, Ranges: admission.Ranges{Services: netip.MustParsePrefix("10.96.0.0/16")}}
	if change != nil {
		change(&cfg)
	}
	seq, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := seq.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	r := &rig{t: t, store: store, seq: seq}
	r.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		store.Close()
	})
	t.Cleanup(r.stop)
	_, err = r.submit(Op{Verb: Create, Key: object.Key{Resource: "namespaces", Name: "d"}, Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "d"}}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return r
}

func (r *rig) submit(ops ...Op) (Result, error) {
	return r.seq.Submit(context.Background(), Request{User: "test", Ops: ops})
}

func (r *rig) must(ops ...Op) Result {
	r.t.Helper()
	res, err := r.submit(ops...)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) get(resource, name string) (object.Object, bool) {
	k := object.Key{Resource: resource, Namespace: "d", Name: name}
	return cluster.NewView(r.store.View()).Get(k)
}

func configMap(name, v string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Data: map[string]string{"v": v}}
}

func write(verb Verb, o object.Object) Op { return Op{Verb: verb, Key: object.KeyOf(o), Object: o} }

func TestSubmitCommitsTheCascadeInOneEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		before := r.store.View().Rev()
		res := r.must(write(Create, configMap("a", "1")))
		if res.Rev != before+2 || len(res.Outcome.Requested) != 1 || len(res.Outcome.Written) != 2 {
			t.Fatalf("revision %d after %d, %d changes requested, %d written; want one entry of two", res.Rev, before, len(res.Outcome.Requested), len(res.Outcome.Written))
		}
		s, ok := r.get("secrets", "a")
		if !ok || string(s.(*corev1.Secret).Data["v"]) != "1" {
			t.Fatalf("the controller's secret is %v", s)
		}
		cm := res.Objects[0]
		if cm.GetUID() == "" || cm.GetResourceVersion() != fmt.Sprint(before+1) || s.GetResourceVersion() != fmt.Sprint(before+2) {
			t.Errorf("configmap UID %q resourceVersion %s, secret %s", cm.GetUID(), cm.GetResourceVersion(), s.GetResourceVersion())
		}
		if _, ok := res.Outcome.Base.Get(object.KeyOf(cm)); ok {
			t.Error("the state before shows the object")
		}
	})
}

func TestSubmitChecksConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		first := r.must(write(Create, configMap("a", "1"))).Objects[0]
		for _, c := range []struct {
			name string
			op   Op
			want func(error) bool
		}{
			{"create what is there", write(Create, configMap("a", "2")), apierrors.IsAlreadyExists},
			{"update what is not there", write(Update, configMap("b", "2")), apierrors.IsNotFound},
			{"create in a namespace that is not there", write(Create, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "no", Name: "a"}}), apierrors.IsNotFound},
			{"stale resourceVersion", Op{Verb: Update, Key: object.KeyOf(first), Object: configMap("a", "2"), ResourceVersion: "1"}, apierrors.IsConflict},
			{"other UID", Op{Verb: Delete, Key: object.KeyOf(first), UID: "other"}, apierrors.IsConflict},
			{"name differs from key", Op{Verb: Update, Key: object.KeyOf(first), Object: configMap("b", "2")}, apierrors.IsBadRequest},
		} {
			rev := r.store.View().Rev()
			if _, err := r.submit(c.op); !c.want(err) {
				t.Errorf("%s: error %v", c.name, err)
			}
			if got := r.store.View().Rev(); got != rev {
				t.Errorf("%s: revision moved from %d to %d", c.name, rev, got)
			}
		}
		// All or nothing: the second operation fails, so the first has no effect.
		if _, err := r.submit(write(Create, configMap("x", "1")), write(Create, configMap("a", "1"))); !apierrors.IsAlreadyExists(err) {
			t.Errorf("two operations, one bad: %v", err)
		}
		if _, ok := r.get("configmaps", "x"); ok {
			t.Error("half a request was committed")
		}
		r.must(Op{Verb: Update, Key: object.KeyOf(first), Object: configMap("a", "2"), ResourceVersion: first.GetResourceVersion(), UID: string(first.GetUID())})
		rev := r.store.View().Rev()
		if res := r.must(write(Update, configMap("a", "2"))); res.Rev != rev || res.Objects[0].GetResourceVersion() != fmt.Sprint(rev-1) {
			t.Errorf("an update that changes nothing: revision %d after %d, object %s", res.Rev, rev, res.Objects[0].GetResourceVersion())
		}
	})
}

func TestForecastEqualsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			c.Token = func(req Request, out Outcome) string {
				var keys []string
				for _, ch := range out.Written {
					keys = append(keys, ch.Key.String())
				}
				return req.Commit + strings.Join(keys, ",")
			}
		})
		defer r.stop()
		req := Request{Source: "cluster", Commit: "c1", Ops: []Op{write(Create, configMap("a", "1"))}}
		rev := r.store.View().Rev()
		out, err := r.seq.Forecast(t.Context(), req)
		if err != nil || len(out.Written) != 2 || r.store.View().Rev() != rev {
			t.Fatalf("forecast of %d changes, %v, revision %d after %d", len(out.Written), err, r.store.View().Rev(), rev)
		}
		req.Token = r.seq.cfg.Token(req, out)
		r.must(write(Create, configMap("a", "other")))
		if _, err := r.seq.Submit(t.Context(), req); !apierrors.IsAlreadyExists(err) {
			t.Errorf("with the name taken: %v", err)
		}
		req.Ops[0].Verb = Update
		if _, err := r.seq.Submit(t.Context(), req); err != nil {
			t.Errorf("the same keys: %v", err)
		}
		req.Token = "of another plan"
		if _, err := r.seq.Submit(t.Context(), req); !errors.Is(err, ErrPlanChanged) {
			t.Errorf("with another token: %v, want ErrPlanChanged", err)
		}
	})
}

func TestRawKeysAreComparedAndSwapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		digest, err := r.seq.StageBlob(t.Context(), []byte("a pack"))
		if err != nil {
			t.Fatal(err)
		}
		push := func(old, next string) error {
			req := Request{Source: "cluster", Raw: []Raw{
				{Key: "/git/refs/heads/main", Value: []byte(next), Check: true},
				{Key: "/git/packs/" + next, Value: []byte(digest)},
			}, Blobs: []string{digest}}
			if old != "" {
				req.Raw[0].Expect = []byte(old)
			}
			_, err := r.seq.Submit(t.Context(), req)
			return err
		}
		if err := push("", "c1"); err != nil {
			t.Fatal(err)
		}
		if err := push("", "c2"); !errors.Is(err, ErrStale) {
			t.Errorf("a push on nothing over c1: %v, want ErrStale", err)
		}
		var wg sync.WaitGroup
		won := make(chan string, 8)
		for i := range 8 {
			wg.Go(func() {
				next := fmt.Sprintf("c2-%d", i)
				if err := push("c1", next); err == nil {
					won <- next
				} else if !errors.Is(err, ErrStale) {
					t.Errorf("a push that lost: %v, want ErrStale", err)
				}
			})
		}
		wg.Wait()
		close(won)
		if len(won) != 1 {
			t.Fatalf("%d of 8 pushes on the same commit won, want 1", len(won))
		}
		if ref, _ := r.store.View().Get("/git/refs/heads/main"); string(ref.Value) != <-won {
			t.Errorf("the ref is %s", ref.Value)
		}
		_, err = r.seq.Submit(t.Context(), Request{Raw: []Raw{{Key: "/x", Value: []byte("1")}}, Blobs: []string{raftstore.Digest([]byte("never staged"))}})
		if !apierrors.IsBadRequest(err) {
			t.Errorf("a blob that was never staged: %v", err)
		}
	})
}

func TestManyClientsShareEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		var wg sync.WaitGroup
		revs := make([]uint64, 200)
		for i := range revs {
			wg.Go(func() {
				res, err := r.submit(write(Create, configMap(fmt.Sprintf("c%03d", i), "1")))
				if err != nil {
					t.Errorf("create %d: %v", i, err)
				}
				revs[i] = res.Rev
			})
		}
		wg.Wait()
		entries := map[uint64]bool{}
		for i, rev := range revs {
			entries[rev] = true
			if _, ok := r.get("secrets", fmt.Sprintf("c%03d", i)); !ok {
				t.Errorf("secret %d is missing", i)
			}
		}
		if len(entries) > 50 { // on a busy machine the clients come one by one; alone each would take one
			t.Errorf("200 requests took %d entries", len(entries))
		}
	})
}

func TestWakesRunWhenDueAlsoAfterARestart(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			storage := raftstore.MemoryStorage()
			r := newRig(t, storage, nil)
			r.must(write(Create, configMap("a", "1")))
			if restart {
				r.stop()
				r = restartRig(t, storage)
			}
			defer r.stop()
			time.Sleep(50 * time.Second)
			if s, _ := r.get("secrets", "a"); s.(*corev1.Secret).Data["late"] != nil {
				t.Error("woken too early")
			}
			time.Sleep(15 * time.Second)
			if s, _ := r.get("secrets", "a"); s.(*corev1.Secret).Data["late"] == nil {
				t.Errorf("not woken (restart %v)", restart)
			}
		})
	}
}

// restartRig is newRig on storage that is in use already.
func restartRig(t testing.TB, storage *raftstore.Storage) *rig {
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: storage, ServerID: "one", Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := New(Config{Store: store, Settler: Controllers{controller.SetOf(copier{})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = seq.Run(ctx) })
	return &rig{t: t, store: store, seq: seq, stop: sync.OnceFunc(func() { cancel(); wg.Wait(); store.Close() })}
}

func TestPanickingControllerHoldsUpOnlyItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		bad := configMap("bad", "1")
		bad.Data["panic"] = "yes"
		res := r.must(write(Create, bad), write(Create, configMap("good", "1")))
		if len(res.Outcome.Settled.Quarantined) != 1 {
			t.Errorf("quarantined %v", res.Outcome.Settled.Quarantined)
		}
		if _, ok := r.get("secrets", "good"); !ok {
			t.Error("the other key was held up")
		}
	})
}

func TestBudgetLeavesTheRestToLaterEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Budget = 10 })
		defer r.stop()
		var ops []Op
		for i := range 50 {
			ops = append(ops, write(Create, configMap(fmt.Sprintf("c%02d", i), "1")))
		}
		res := r.must(ops...)
		if n := len(res.Outcome.Written); n != 60 {
			t.Errorf("the first entry has %d changes, want 50 and a budget of 10", n)
		}
		time.Sleep(time.Second)
		n := 0
		for range cluster.NewView(r.store.View()).List("secrets", "d") {
			n++
		}
		if n != 50 {
			t.Errorf("%d secrets in the end, want 50", n)
		}
	})
}

func TestLeaseRenewalsStayInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		ns := corev1.NamespaceNodeLease
		r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
		holder := "n1"
		lease := func() *coordinationv1.Lease { return nodeLease("n1", holder) }
		r.must(write(Create, lease()))
		rev := r.store.View().Rev()
		for range 100 {
			time.Sleep(20 * time.Millisecond)
			r.must(write(Update, lease()))
		}
		if got := r.store.View().Rev(); got != rev {
			t.Errorf("100 renewals within two seconds moved the revision from %d to %d", rev, got)
		}
		last := time.Now()
		time.Sleep(11 * time.Second)
		o, _ := cluster.NewView(r.store.View()).Get(object.Key{Resource: "leases", Namespace: ns, Name: "n1"})
		if got := o.(*coordinationv1.Lease).Spec.RenewTime.Time; !got.Equal(last.Truncate(time.Microsecond)) {
			t.Errorf("the checkpoint has %s, the last renewal was at %s", got, last)
		}
		if got := r.store.View().Rev(); got != rev {
			t.Errorf("the checkpoint moved the revision from %d to %d", rev, got)
		}
		holder = "thief"
		r.must(write(Update, lease()))
		if got := r.store.View().Rev(); got == rev {
			t.Error("a new holder was not written at once")
		}
	})
}

// nodeLease is a node's lease, renewed now.
func nodeLease(name, holder string) *coordinationv1.Lease {
	now := metav1.NowMicro()
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &now}}
}

func TestGitsFieldsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		cm := configMap("a", "1")
		if err := admission.SetGitOwned(cm, admission.Owner{Source: "cluster", Commit: "c0ffee", File: "a.yaml:3"}, []byte(`{"data":{"v":"1"}}`), time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.seq.Submit(t.Context(), Request{Source: "cluster", Ops: []Op{write(Create, cm)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.submit(write(Update, configMap("a", "2"))); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "a.yaml:3") {
			t.Errorf("an update of a field of git: %v", err)
		}
		free := configMap("a", "1")
		free.Labels = map[string]string{"mine": "yes"}
		if _, err := r.submit(write(Update, free)); err != nil {
			t.Errorf("an update of a free field: %v", err)
		}
		if _, err := r.submit(Op{Verb: Delete, Key: object.KeyOf(cm)}); !apierrors.IsForbidden(err) {
			t.Errorf("a delete of an object of git: %v", err)
		}
		if _, err := r.submit(Op{Verb: Delete, Key: object.Key{Resource: "namespaces", Name: "d"}}); !apierrors.IsForbidden(err) {
			t.Errorf("a delete of its namespace: %v", err)
		}
		system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-node-lease"}}
		r.must(write(Create, system))
		for _, source := range []string{"", "cluster"} {
			_, err := r.seq.Submit(t.Context(), Request{Source: source, Ops: []Op{{Verb: Delete, Key: object.KeyOf(system)}}})
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "this namespace may not be deleted") {
				t.Errorf("a delete of a preset namespace by source %q: %v", source, err)
			}
		}
	})
}

func TestFullQueueSaysTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Queue = 1 })
		defer r.stop()
		var wg sync.WaitGroup
		var mu sync.Mutex
		full := 0
		for i := range 100 {
			wg.Go(func() {
				_, err := r.submit(write(Create, configMap(fmt.Sprintf("c%d", i), "1")))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case apierrors.IsTooManyRequests(err):
					full++
				case err != nil:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		for range cluster.NewView(r.store.View()).List("configmaps", "d") {
			n++
		}
		if full == 0 || full+n != 100 {
			t.Errorf("%d refused, %d stored, of 100", full, n)
		}
	})
}
