package sequencer

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pgregory.net/rapid"

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

// The leader's wall clock stands years ahead for a minute: no stamp of then is written, neither meanwhile nor by the next leader.
func TestClockAheadForAMinuteWritesNoStampOfThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		})
		defer r.stop()
		r.must(write(Create, configMap("a", "1")))
		offset.Store(int64(5 * 365 * 24 * time.Hour))
		for i := range 6 {
			r.must(write(Create, configMap(fmt.Sprint("ahead-", i), "1")))
			time.Sleep(10 * time.Second)
		}
		offset.Store(0)
		r.must(write(Create, configMap("back", "1")))
		o, _ := r.get("configmaps", "ahead-3")
		if made := o.GetCreationTimestamp(); time.Since(made.Time) > 2*time.Minute || time.Since(made.Time) < 0 {
			t.Errorf("an object of a minute ago is said to be made %s", made)
		}
		if off := time.Until(r.store.View().Time()).Abs(); off > 2*time.Second {
			t.Errorf("the store's time is off by %s", off)
		}
	})
}

// However a wall clock jumps, if it is right again within four minutes each time, the tenure's clock is off by no more than a few seconds; it
// never stands still; and a wall clock that keeps to its time is followed in the end.
func TestClockFollowsWhatLasts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		jumps := rapid.SliceOfN(rapid.Int64Range(-int64(87600*time.Hour), int64(87600*time.Hour)), 1, 6).Draw(rt, "jumps")
		lasting := rapid.Int64Range(int64(-24*time.Hour), int64(87600*time.Hour)).Draw(rt, "lasting")
		synctest.Test(t, func(t *testing.T) {
			var off time.Duration
			begin := time.Now()
			c := newClock(func() time.Time { return time.Now().Add(off) }, begin, true)
			last := c.now()
			pass := func(d time.Duration) {
				for range d / time.Second {
					time.Sleep(time.Second)
					now := c.now()
					if now.Equal(last) {
						t.Errorf("the clock stands still at %s", last)
					}
					last = now
				}
			}
			for _, j := range jumps {
				off = time.Duration(j)
				pass(4 * time.Minute)
				off = 0
				pass(10 * time.Second)
				if d := time.Until(last).Abs(); d > 3*time.Second {
					t.Errorf("a jump by %s for four minutes left the clock off by %s", time.Duration(j), d)
				}
			}
			off = time.Duration(lasting)
			pass(6 * time.Minute)
			if want := later(time.Now().Add(off), time.Now()); want.Sub(last).Abs() > 3*time.Second {
				t.Errorf("a wall clock that stays %s ahead is not followed: %s, want %s", off, last, want)
			}
			off = 0
			pass(6 * time.Minute)
			if d := time.Until(last).Abs(); d > 3*time.Second {
				t.Errorf("a wall clock that was set right again is not followed: off by %s", d)
			}
		})
	})
}
