package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
	"reconcile/scheduler"
)

// TestPodsOfOtherSchedulers: a new pod makes the scheduler look at those that wait, unless it is another scheduler's, until there is a profile of that
// name.
func TestPodsOfOtherSchedulers(t *testing.T) {
	s := memview.New()
	c := controller.NamedController("scheduler")
	looks := func(name string) bool {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p"}, Spec: corev1.PodSpec{SchedulerName: name}}
		p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
		n := 0
		c.Keys(s, controller.Change{Key: object.KeyOf(p), New: p}, func(object.Key) { n++ })
		return n > 0
	}
	for name, want := range map[string]bool{"": true, corev1.DefaultSchedulerName: true, "other": false, "ours": false} {
		if got := looks(name); got != want {
			t.Errorf("without profiles a pod of %q makes it look: %v, want %v", name, got, want)
		}
	}
	profiles := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: scheduler.ProfilesKey.Namespace, Name: scheduler.ProfilesKey.Name}, Data: map[string]string{"ours": ""}}
	profiles.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	s.Put(profiles)
	for name, want := range map[string]bool{"": true, "other": false, "ours": true} {
		if got := looks(name); got != want {
			t.Errorf("with a profile a pod of %q makes it look: %v, want %v", name, got, want)
		}
	}
}
