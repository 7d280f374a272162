package testcluster_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// spreader stands for the controllers: a ConfigMap with data "pods" gets as many pods, on the nodes in turn.
type spreader struct{}

func (spreader) Name() string      { return "spreader" }
func (spreader) Watches() []string { return []string{"configmaps", "pods"} }
func (spreader) Keys(_ controller.View, ch controller.Change, emit func(object.Key)) {
	if ch.Key.Resource == "configmaps" {
		emit(ch.Key)
		return
	}
	for _, o := range []object.Object{ch.Old, ch.New} {
		if o == nil {
			continue
		}
		if name, ok := o.GetLabels()["spread"]; ok {
			emit(object.Key{Resource: "configmaps", Namespace: ch.Key.Namespace, Name: name})
		}
	}
}

func (spreader) Reconcile(v controller.View, k object.Key, _ time.Time) (controller.Result, error) {
	var res controller.Result
	o, ok := v.Get(k)
	if !ok {
		return res, nil
	}
	cm := o.(*corev1.ConfigMap)
	want := 0
	if cm.Data["pods"] == "" {
		return res, nil
	}
	if _, err := fmt.Sscan(cm.Data["pods"], &want); err != nil {
		return res, err
	}
	var nodes []string
	for n := range v.List("nodes", "") {
		nodes = append(nodes, n.GetName())
	}
	have, ready := 0, 0
	for p := range v.Owned(cm.UID) {
		pod := p.(*corev1.Pod)
		have++
		if have > want && pod.DeletionTimestamp == nil {
			res.Delete = append(res.Delete, controller.Deletion{Key: object.KeyOf(pod)})
		}
		if pod.Status.Phase == corev1.PodRunning {
			ready++
		}
	}
	for i := have; i < want && len(nodes) > 0; i++ {
		name := fmt.Sprintf("%s-%s-%d", cm.Name, cm.ResourceVersion, i)
		res.Put = append(res.Put, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: cm.Namespace, Name: name, UID: controller.HashUID(string(cm.UID), name), Labels: map[string]string{"spread": cm.Name},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: cm.Name, UID: cm.UID}}},
			Spec: corev1.PodSpec{NodeName: nodes[i%len(nodes)], Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		})
	}
	if text := fmt.Sprint(ready); cm.Annotations["ready"] != text {
		next := object.Copy(cm)
		next.Annotations = map[string]string{"ready": text}
		res.Put = append(res.Put, next)
	}
	return res, nil
}

func spread() sequencer.Settler {
	return sequencer.Controllers{Set: controller.SetOf(spreader{})}
}

func ready(name, want string) func(v *cluster.View) bool {
	return func(v *cluster.View) bool {
		o, ok := v.Get(object.Key{Resource: "configmaps", Namespace: "d", Name: name})
		return ok && o.GetAnnotations()["ready"] == want
	}
}

func start(t *testing.T, cfg testcluster.Config) *testcluster.Cluster {
	t.Helper()
	if cfg.Settler == nil {
		cfg.Settler = spread()
	}
	c := testcluster.Start(t, cfg)
	c.Must(testcluster.Create(testcluster.Namespace("d"), testcluster.Namespace(corev1.NamespaceNodeLease)))
	return c
}

func pods(name, n string) object.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Data: map[string]string{"pods": n}}
}

// Example of the harness: a write on three servers and fifty nodes becomes pods that run, and the leader's death changes nothing.
func TestPodsRunOnFiftyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{Nodes: 50})
		c.WaitFor("50 nodes", func(v *cluster.View) bool {
			n := 0
			for range v.List("nodes", "") {
				n++
			}
			return n == 50
		})
		c.Must(testcluster.Create(pods("web", "100")))
		c.WaitFor("100 pods ready", ready("web", "100"))
		c.Kill(c.Leader().Index)
		c.Must(testcluster.Create(pods("db", "50")))
		c.WaitFor("50 more pods ready", ready("db", "50"))
		c.Settled()
	})
}

func TestLeaderKilledUnderLoad(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk=%v", disk), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, testcluster.Config{Disk: disk})
				load := c.StartLoad("d", 6)
				rounds := 5
				if disk {
					rounds = 2 // each write is an fsync of three real files
				}
				for range rounds {
					time.Sleep(2 * time.Second)
					i := c.Leader().Index
					c.Kill(i)
					time.Sleep(3 * time.Second)
					c.Restart(i)
				}
				finish(t, c, load)
			})
		})
	}
}

func TestLeaderPartitionedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		load := c.StartLoad("d", 6)
		for range 10 {
			time.Sleep(time.Second)
			c.Isolate(c.Leader().Index)
			time.Sleep(3 * time.Second)
			c.Heal()
		}
		finish(t, c, load)
	})
}

func TestAllKilledAndRestarted(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk=%v", disk), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, testcluster.Config{Disk: disk})
				load := c.StartLoad("d", 6)
				rounds := 4
				if disk {
					rounds = 2
				}
				for range rounds {
					time.Sleep(2 * time.Second)
					for i := range 3 {
						c.Kill(i)
					}
					for i := range 3 {
						c.Restart(i)
					}
				}
				finish(t, c, load)
			})
		})
	}
}

func finish(t *testing.T, c *testcluster.Cluster, load *testcluster.Load) {
	t.Helper()
	acked, unknown, refused := load.Stop()
	c.Settled()
	if err := load.Check(c.Leader().View(), "d"); err != nil {
		t.Error(err)
	}
	if acked < 100 {
		t.Errorf("only %d writes were acknowledged: the test proves little", acked)
	}
	t.Logf("%d acknowledged, %d unknown, %d refused", acked, unknown, refused)
}

// TestLeaderLostInSilence takes the leader's power away: a follower must not wait for it until TCP gives up. Reads find the new leader,
// and a write under way is answered, as unknown, so that its client can go on.
func TestLeaderLostInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		old := c.Leader().Index
		by := (old + 1) % 3
		c.Silence(old)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		written := make(chan error, 1)
		go func() {
			_, err := c.Submit(ctx, by, testcluster.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", UID: "x"}}))
			written <- err
		}()
		if err := c.Server(by).Seq().Barrier(ctx); err != nil || time.Since(began) > 15*time.Second {
			t.Errorf("a read ended after %s with %v", time.Since(began), err)
		}
		if err := <-written; !apierrors.IsTimeout(err) && err != nil || time.Since(began) > 15*time.Second {
			t.Errorf("a write ended after %s with %v", time.Since(began), err)
		}
		c.Heal()
	})
}

func TestMinorityAcknowledgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		old := c.Leader()
		c.Isolate(old.Index)
		cut := time.Now()
		load := c.StartLoad("d", 6)
		time.Sleep(20 * time.Second)
		load.Stop()
		for _, m := range c.History.Moments() {
			if m.Who == fmt.Sprintf("client by s%d", old.Index) && m.Rev > 0 && m.At.After(cut) {
				t.Errorf("the isolated server acknowledged: %s at revision %d", m.What, m.Rev)
			}
		}
		c.Heal()
		finish(t, c, load)
	})
}

// A watch that is cut after any event of a cascade, and goes on by another server, misses nothing and repeats nothing.
func TestWatchResumesAfterEveryEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{Nodes: 3})
		from := c.Must(testcluster.Create(pods("web", "5"))).Rev
		from -= 6 // before the entry's own block of six
		c.WaitFor("5 pods ready", ready("web", "5"))
		c.Settled()
		last := c.Leader().View().Rev()
		read := func(server int, after uint64, n int) (keys []string, rev uint64) {
			w, err := cluster.WatchObjects(c.Server(server).Store(), "pods", "", after)
			if err != nil {
				t.Fatal(err)
			}
			rev = after
			for rev < last {
				events, upTo, err := w.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					keys = append(keys, fmt.Sprintf("%d %s %s", e.Rev, e.Type, e.Object.GetName()))
					if len(keys) == n {
						return keys, e.Rev
					}
				}
				rev = max(rev, upTo)
				if len(events) == 0 && upTo >= last {
					break
				}
			}
			return keys, rev
		}
		all, _ := read(0, from, -1)
		if len(all) < 10 {
			t.Fatalf("the cascade has %d events of pods, want at least 10: %v", len(all), all)
		}
		for n := 1; n < len(all); n++ {
			head, rev := read(n%3, from, n)
			tail, _ := read((n+1)%3, rev, -1)
			if got, want := fmt.Sprint(append(head, tail...)), fmt.Sprint(all); got != want {
				t.Fatalf("cut after event %d:\n%s\nwant\n%s", n, got, want)
			}
		}
	})
}

func TestObserverSeesEveryAcknowledgedWriteOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, testcluster.Config{})
		obs := c.Observe("configmaps", c.Leader().View().Rev())
		load := c.StartLoad("d", 6)
		for range 3 {
			time.Sleep(2 * time.Second)
			i := c.Leader().Index
			c.Isolate(i)
			time.Sleep(2 * time.Second)
			c.Heal()
		}
		finish(t, c, load)
		time.Sleep(time.Second)
		obs.Stop()
		if obs.Fault != nil {
			t.Error(obs.Fault)
		}
		seen := map[string]int{}
		for _, e := range obs.Events {
			if e.Type == cluster.Added {
				seen[e.Object.GetName()]++
			}
		}
		for o := range c.Leader().View().List("configmaps", "d") {
			if seen[o.GetName()] != 1 {
				t.Errorf("%s was added %d times", o.GetName(), seen[o.GetName()])
			}
		}
	})
}
