package sequencer

import (
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// usageTable is the CPU that pods were measured to use, by their names.
type usageTable map[string]string

func (u usageTable) Usage(pod object.Key) (object.Usage, bool) {
	cpu, ok := u[pod.Name]
	if !ok {
		return object.Usage{}, false
	}
	return object.Usage{Containers: map[string]corev1.ResourceList{"c": {"cpu": resource.MustParse(cpu)}}}, true
}

func (usageTable) Metric(object.Key, object.MetricQuery) (object.MetricValue, string, bool) {
	return object.MetricValue{}, "", false
}

// TestPodsGoWhereLittleIsUsed: a profile that weighs MeasuredLoad goes by what the leader was told last, though nothing in the store has changed.
func TestPodsGoWhereLittleIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, err := controller.NewSet(controller.Config{ClusterID: "usage", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.0.0.0/8")})
		if err != nil {
			t.Fatal(err)
		}
		var table atomic.Pointer[usageTable]
		table.Store(&usageTable{"on-n0": "3500m", "on-n1": "10m"})
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Settler, c.Usages = Controllers{set}, func() Usages { return *table.Load() } })
		defer r.stop()
		view := func() *cluster.View { return cluster.NewView(r.store.View()) }
		for {
			if _, ok := view().Get(object.Key{Resource: "namespaces", Name: "kube-system"}); ok {
				break
			}
			time.Sleep(time.Millisecond)
		}
		pod := func(name, node, scheduler string) Op {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{NodeName: node, SchedulerName: scheduler, Containers: []corev1.Container{{Name: "c", Image: "i",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}}}}
			admission.Default(p)
			return write(Create, p)
		}
		for i := range 2 {
			name := fmt.Sprintf("n%d", i)
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
			n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
			r.must(write(Create, n))
			r.must(pod("on-"+name, name, ""))
		}
		r.must(write(Create, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "scheduler-profiles"}, Data: map[string]string{"idle": "weights: {MeasuredLoad: 10}"}}))

		got := map[string]string{}
		place := func(names ...string) {
			for _, name := range names {
				r.must(pod(name, "", "idle"))
				o, _ := view().Get(object.Key{Resource: "pods", Namespace: "d", Name: name})
				got[name] = o.(*corev1.Pod).Spec.NodeName
			}
		}
		place("a", "b", "c")
		table.Store(&usageTable{"on-n0": "10m", "on-n1": "3500m", "a": "0", "b": "0", "c": "0"})
		place("d", "e", "f")
		if want := map[string]string{"a": "n1", "b": "n1", "c": "n1", "d": "n0", "e": "n0", "f": "n0"}; !maps.Equal(got, want) {
			t.Errorf("placed as %v, want %v", got, want)
		}
	})
}
