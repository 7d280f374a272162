package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestWhatWakesTheScheduler holds which changes have waiting pods looked at again.
func TestWhatWakesTheScheduler(t *testing.T) {
	w := newWorld(t)
	if err := w.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: waits}\nspec: {containers: [{name: c, image: v1}]}"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	step := controller.Trigger{Controller: "scheduler", Key: object.Key{Resource: "pods"}}
	meta := metav1.ObjectMeta{Name: "x", UID: "1"}
	blue := meta
	blue.Labels = map[string]string{"team": "blue"}
	noted := meta
	noted.Annotations = map[string]string{"a": "b"}
	node := func(change func(n *corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: meta}
		if change != nil {
			change(n)
		}
		return n
	}
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, c := range []struct {
		name     string
		old, new object.Object
		woken    bool
	}{
		{"one that others went for is gone", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "default"}, Status: corev1.PodStatus{NominatedNodeName: "n1"}}, nil, true},
		{"one that waits is gone", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "default"}}, nil, false},
		{"one on a node asks for less", sized("2", ""), sized("1", ""), true},
		{"one on a node was given less", sized("1", "2"), sized("1", "1"), true},
		{"one on a node was given what it asked for", sized("1", ""), sized("1", "1"), false},
		{"one on a node stays as it is", sized("1", "1"), sized("1", "1"), false},
		{"a namespace comes", nil, &corev1.Namespace{ObjectMeta: blue}, false},
		{"a namespace is labelled", &corev1.Namespace{ObjectMeta: meta}, &corev1.Namespace{ObjectMeta: blue}, true},
		{"a namespace is annotated", &corev1.Namespace{ObjectMeta: meta}, &corev1.Namespace{ObjectMeta: noted}, false},
		{"a namespace goes", &corev1.Namespace{ObjectMeta: blue}, nil, false},
		{"capacity comes", nil, &storagev1.CSIStorageCapacity{ObjectMeta: meta}, true},
		{"capacity goes", &storagev1.CSIStorageCapacity{ObjectMeta: meta}, nil, false},
		{"a driver changes", &storagev1.CSIDriver{ObjectMeta: meta}, &storagev1.CSIDriver{ObjectMeta: meta}, true},
		{"a driver goes", &storagev1.CSIDriver{ObjectMeta: meta}, nil, false},
		{"a node says for the first time how it is", node(nil), node(func(n *corev1.Node) { n.Status.Conditions = ready }), true},
		{"a node says again how it is", node(func(n *corev1.Node) { n.Status.Conditions = ready }), node(func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}), false},
		{"a node has other images", node(nil), node(func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{Names: []string{"v1"}}} }), false},
		{"a node is labelled", node(nil), node(func(n *corev1.Node) { n.Labels = blue.Labels }), true},
		{"a node may be used again", node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), node(nil), true},
		{"a node grows", node(nil), node(func(n *corev1.Node) { n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("1")} }), true},
		{"a node begins to go", node(nil), node(func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }), true},
		{"a volume is attached", nil, &storagev1.VolumeAttachment{ObjectMeta: meta}, false},
		{"a volume is detached", &storagev1.VolumeAttachment{ObjectMeta: meta}, nil, true},
	} {
		key := object.Key{}
		for _, o := range []object.Object{c.old, c.new} {
			if o != nil {
				key = object.KeyOf(o)
			}
		}
		if got := slices.Contains(w.set.Triggers(w.state, []controller.Change{{Key: key, Old: c.old, New: c.new}}), step); got != c.woken {
			t.Errorf("%s: looked at again %v, want %v", c.name, got, c.woken)
		}
	}
}

// TestTurns: a pod that was told why it waits is tried and told again in its own second of each five minutes, or when it, or its claim, is another; else not if only numbers are others.
func TestTurns(t *testing.T) {
	w := newWorld(t)
	w.node("n0", "4", "8Gi", nil)
	pods := []string{}
	for i := range 20 {
		pods = append(pods, fmt.Sprintf("waits%d", i))
		if err := w.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: v1}], volumes: [{name: v, persistentVolumeClaim: {claimName: c%d}}]}", pods[i], i)); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	says := func(name string) string {
		o, _ := w.state.Get(object.Key{Resource: "pods", Namespace: "default", Name: name})
		return o.(*corev1.Pod).Status.Conditions[0].Message
	}
	count := func(text string) (n int) {
		for _, name := range pods {
			if strings.HasPrefix(says(name), text) {
				n++
			}
		}
		return n
	}
	if count("0/1 nodes") != 20 {
		t.Fatalf("%d speak of one node", count("0/1 nodes"))
	}
	w.now = w.now.Add(time.Minute)
	w.node("n1", "4", "8Gi", nil)
	w.settle()
	if n := count("0/1 nodes"); n != 20 {
		t.Errorf("a node that does not help is told of at once to %d", 20-n)
	}
	if err := w.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: waits7}\nspec: {containers: [{name: c, image: v1}], tolerations: [{key: k, operator: Exists}], volumes: [{name: v, persistentVolumeClaim: {claimName: c7}}]}"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if n := count("0/1 nodes"); n != 19 || strings.HasPrefix(says("waits7"), "0/1 nodes") {
		t.Errorf("a pod that is another is not told: %s, and %d others are", says("waits7"), 19-n)
	}
	if err := w.apply("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c5}\nspec: {accessModes: [ReadWriteOnce], volumeName: gone, resources: {requests: {storage: 1Gi}}}"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if n := count("0/1 nodes"); n != 18 || strings.Contains(says("waits5"), "not found") {
		t.Errorf("a pod whose claim comes is not told: %s, and %d others are", says("waits5"), 18-n)
	}
	w.pass(150 * time.Second)
	if n := count("0/1 nodes"); n < 4 || n > 14 {
		t.Errorf("after half of the time %d of 18 wait for their turn", n)
	}
	w.pass(150 * time.Second)
	if n := count("0/1 nodes"); n != 0 {
		t.Errorf("after all of the time %d wait for their turn", n)
	}
	for _, name := range pods {
		w.state.Delete(object.Key{Resource: "pods", Namespace: "default", Name: name})
	}
	w.settle()
	w.pass(5 * time.Minute)
	for trigger := range w.wakes {
		if trigger.Controller == "scheduler" {
			t.Errorf("nobody waits, and %s is woken", trigger.Key)
		}
	}
}

// sized is a pod on a node that asks for so much CPU, and was given so much; "" for one whose agent has not said.
func sized(asks, given string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "default"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(asks)}}}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}}
	if given != "" {
		p.Status.ContainerStatuses[0].AllocatedResources = corev1.ResourceList{"cpu": resource.MustParse(given)}
	}
	return p
}
