package sequencer

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// counter is a controller that wants three replicas in the status of each replication controller.
type counter struct{}

func (counter) Name() string                                                        { return "counter" }
func (counter) Watches() []string                                                   { return []string{"replicationcontrollers"} }
func (counter) Keys(_ controller.View, ch controller.Change, emit func(object.Key)) { emit(ch.Key) }
func (counter) Reconcile(v controller.View, k object.Key, _ time.Time) (controller.Result, error) {
	o, ok := v.Get(k)
	if !ok {
		return controller.Result{}, nil
	}
	c := object.Copy(o).(*corev1.ReplicationController)
	c.Status.Replicas = 3
	return controller.Result{Put: []object.Object{c}}, nil
}

// TestStatusOfAClientIsCommitted writes statuses that a controller wants otherwise: each client is answered with what it wrote, as are watchers, and
// the controller writes its own after that. Some of the requests share an entry.
func TestStatusOfAClientIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Settler = Controllers{controller.SetOf(counter{})} })
		defer r.stop()
		const n = 20
		var wg sync.WaitGroup
		for i := range n {
			rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: string(rune('a' + i))}}
			made := r.must(write(Create, rc)).Objects[0].(*corev1.ReplicationController)
			if made.Status.Replicas != 3 {
				t.Fatalf("made with %d replicas, want what the controller says", made.Status.Replicas)
			}
			wg.Go(func() {
				mine := made.DeepCopy()
				mine.Status.Replicas = 7
				op := write(UpdateStatus, mine)
				op.Subresource = "status"
				res, err := r.submit(op)
				if err != nil || res.Objects[0].(*corev1.ReplicationController).Status.Replicas != 7 {
					t.Errorf("answered %v, %v, want the 7 replicas that were written", res.Objects, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		for i := range n {
			o, _ := r.get("replicationcontrollers", string(rune('a'+i)))
			if got := o.(*corev1.ReplicationController).Status.Replicas; got != 3 {
				t.Errorf("%d replicas stay, want what the controller says", got)
			}
		}
	})
}
