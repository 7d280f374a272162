//go:build failpoints

package sequencer

import (
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/fp"
	"reconcile/raftstore"
)

// Somebody sets the leader's clock (F8), forwards or backwards: a node whose lease was renewed a second ago is a second old to the controllers.
func TestNoLeaseAgesByASettingOfTheClock(t *testing.T) {
	for _, skew := range []string{"1h", "-1h", "87600h"} {
		t.Run(skew, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, raftstore.MemoryStorage(), nil)
				defer r.stop()
				r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}))
				r.must(write(Create, nodeLease("n1", "n1")))
				r.must(write(Update, nodeLease("n1", "n1")))
				if err := fp.Set("wall=skew:" + skew); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = fp.Set("") }() // nothing to read in it
				time.Sleep(11 * time.Second)      // some checkpoints
				r.must(write(Create, configMap("now", "1")))
				o, _ := r.getIn("leases", corev1.NamespaceNodeLease, "n1")
				if age := r.store.View().Time().Sub(o.(*coordinationv1.Lease).Spec.RenewTime.Time); age < 0 || age > 12*time.Second {
					t.Errorf("the lease is %s old by the cluster's time, want at most 12 s", age)
				}
			})
		})
	}
}
