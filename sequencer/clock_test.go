package sequencer

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/raftstore"
)

// The wall clock is set back by an hour under a leader: what is due in a minute still happens in a minute.
func TestWakesComeAlsoAfterTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		})
		defer r.stop()
		r.must(write(Create, configMap("a", "1")))
		offset.Store(int64(-time.Hour))
		time.Sleep(65 * time.Second)
		if s, _ := r.get("secrets", "a"); s.(*corev1.Secret).Data["late"] == nil {
			t.Error("not woken")
		}
		before := r.store.View().Time()
		r.must(write(Create, configMap("b", "1")))
		if after := r.store.View().Time(); !after.After(before) {
			t.Errorf("time stands still at %s", after)
		}
	})
}

// The leader's wall clock jumps an hour ahead: a lease that was renewed a second ago is a second old, whatever its node's clock says.
func TestLeasesAreAgedByTheMonotonicClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		})
		defer r.stop()
		r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}))
		r.must(write(Create, nodeLease("n1", "n1")))
		time.Sleep(9 * time.Second)
		r.must(write(Update, nodeLease("n1", "n1")))
		offset.Store(int64(time.Hour))
		time.Sleep(11 * time.Second) // some checkpoints
		r.must(write(Create, configMap("now", "1")))
		o, _ := r.getIn("leases", corev1.NamespaceNodeLease, "n1")
		if age := r.store.View().Time().Sub(o.(*coordinationv1.Lease).Spec.RenewTime.Time); age < 0 || age > 12*time.Second {
			t.Errorf("the lease is %s old by the cluster's time, want at most 12 s", age)
		}
	})
}

func (r *rig) getIn(resource, namespace, name string) (object.Object, bool) {
	return cluster.NewView(r.store.View()).Get(object.Key{Resource: resource, Namespace: namespace, Name: name})
}
