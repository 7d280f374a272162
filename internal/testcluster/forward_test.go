package testcluster_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/testcluster"
	"reconcile/object"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}}
}

// TestForwardedOutcomeIsThatOfItsEntry: what a follower says that a write did is what it did on the state that it was decided on, also
// if more has been written before the answer arrived: a plan is drawn from it.
func TestForwardedOutcomeIsThatOfItsEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *testcluster.Cluster
		var leader int
		var armed atomic.Bool
		c = start(t, testcluster.Config{Carried: func(from int) {
			if !armed.CompareAndSwap(true, false) {
				return
			}
			if _, err := c.Submit(t.Context(), leader, testcluster.Create(configMap("later"))); err != nil {
				t.Error(err)
			}
			if err := c.Server(from).Seq().Barrier(t.Context()); err != nil {
				t.Error(err)
			}
		}})
		leader = c.Leader().Index
		armed.Store(true)
		res, err := c.Submit(t.Context(), (leader+1)%3, testcluster.Create(configMap("mine")))
		if err != nil {
			t.Fatal(err)
		}
		mine, later := object.KeyOf(configMap("mine")), object.KeyOf(configMap("later"))
		if _, ok := c.Server((leader + 1) % 3).View().Get(later); !ok {
			t.Fatal("nothing was written before the answer arrived: the test proves nothing")
		}
		for _, state := range []struct {
			name        string
			get         func(object.Key) (object.Object, bool)
			mine, later bool
		}{
			{"before", res.Outcome.Base.Get, false, false},
			{"after", res.Outcome.After.Get, true, false},
		} {
			if _, ok := state.get(mine); ok != state.mine {
				t.Errorf("the state %s it shows the write: %v, want %v", state.name, ok, state.mine)
			}
			if _, ok := state.get(later); ok != state.later {
				t.Errorf("the state %s it shows a later write: %v, want %v", state.name, ok, state.later)
			}
		}
	})
}
