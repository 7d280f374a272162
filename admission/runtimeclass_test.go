package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestDefaultRuntime holds what a RuntimeClass gives a pod, and what is refused.
func TestDefaultRuntime(t *testing.T) {
	cpu := corev1.ResourceList{"cpu": resource.MustParse("100m")}
	v := view{
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "h"},
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "heavy"}, Handler: "h", Overhead: &nodev1.Overhead{PodFixed: cpu},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"disk": "ssd"}, Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}}},
	}
	name := func(s string) *string { return &s }
	for _, c := range []struct {
		what string
		spec corev1.PodSpec
		want corev1.PodSpec
		err  string
	}{
		{"no class", corev1.PodSpec{}, corev1.PodSpec{}, ""},
		{"overhead of no class", corev1.PodSpec{Overhead: cpu}, corev1.PodSpec{}, "without corresponding RuntimeClass"},
		{"overhead of a class without", corev1.PodSpec{RuntimeClassName: name("plain"), Overhead: cpu}, corev1.PodSpec{}, "without corresponding RuntimeClass"},
		{"a class that there is not", corev1.PodSpec{RuntimeClassName: name("none")}, corev1.PodSpec{}, `RuntimeClass "none" not found`},
		{"another overhead", corev1.PodSpec{RuntimeClassName: name("heavy"), Overhead: corev1.ResourceList{"cpu": resource.MustParse("1")}}, corev1.PodSpec{}, "doesn't match"},
		{"another selector", corev1.PodSpec{RuntimeClassName: name("heavy"), NodeSelector: map[string]string{"disk": "hdd"}}, corev1.PodSpec{}, "conflict: runtimeClass.scheduling.nodeSelector[disk] = ssd; pod.spec.nodeSelector[disk] = hdd"},
		{"all of it", corev1.PodSpec{RuntimeClassName: name("heavy"), NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpEqual, Value: "v"}}},
			corev1.PodSpec{RuntimeClassName: name("heavy"), Overhead: cpu, NodeSelector: map[string]string{"a": "b", "disk": "ssd"}, Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}}, ""},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: c.spec}
		shared := object.Copy(p)
		switch err := DefaultRuntime(v, p); {
		case (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err):
			t.Errorf("%s: %v, want %q", c.what, err, c.err)
		case err == nil && !equal(p.Spec, c.want):
			t.Errorf("%s: %+v, want %+v", c.what, p.Spec, c.want)
		case !equal(c.spec, shared.Spec):
			t.Errorf("%s: what the pod shares was changed", c.what)
		}
	}
}

// TestRuntimeConflictIsTheSame: of several labels on which a pod and its RuntimeClass do not agree always the same is told.
func TestRuntimeConflictIsTheSame(t *testing.T) {
	class, own := map[string]string{}, map[string]string{}
	for _, key := range []string{"zone", "disk", "arch", "rack", "row", "hall"} {
		class[key], own[key] = "a", "b"
	}
	v := view{&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Handler: "h", Scheduling: &nodev1.Scheduling{NodeSelector: class}}}
	name := "r"
	for range 50 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{RuntimeClassName: &name, NodeSelector: own}}
		const want = "conflict: runtimeClass.scheduling.nodeSelector[arch] = a; pod.spec.nodeSelector[arch] = b"
		if err := DefaultRuntime(v, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("refused with %v, want %q", err, want)
		}
	}
}
