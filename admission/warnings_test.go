package admission

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestWarnings: a write of a specification warns of what is unwise in it, whatever of it has changed; another write does not.
func TestWarnings(t *testing.T) {
	twice := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}}}}
	app := map[string]string{"a": "b"}
	deployment := func(name string, replicas int32, label string) object.Object {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{"l": label}}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: app}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: twice}}}
	}
	set := func(limit int32, label string) object.Object {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s.s", Labels: map[string]string{"l": label}}, Spec: appsv1.StatefulSetSpec{RevisionHistoryLimit: &limit,
			Selector: &metav1.LabelSelector{MatchLabels: app}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: twice}}}
	}
	daemons := func(label, image string) object.Object {
		spec := *twice.DeepCopy()
		spec.Containers[0].Image = image
		return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s", Labels: map[string]string{"l": label}}, Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: app}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: spec}}}
	}
	cron := func(schedule string) object.Object {
		return &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "c"}, Spec: batchv1.CronJobSpec{Schedule: schedule}}
	}
	pod := func(label string) object.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p.p", Labels: map[string]string{"l": label}}, Spec: twice}
	}
	const hides, name, history = "hides previous definition", "a DNS label is recommended", "a negative value retains all"
	for _, c := range []struct {
		what   string
		o, old object.Object
		want   []string
	}{
		{"a new deployment", deployment("x", 1, ""), nil, []string{hides}},
		{"one whose name is no label", deployment("x.y", 1, ""), nil, []string{name, hides}},
		{"scaled", deployment("x.y", 2, ""), deployment("x.y", 1, ""), []string{hides}},
		{"labelled", deployment("x.y", 1, "2"), deployment("x.y", 1, "1"), nil},
		{"a new stateful set", set(-1, ""), nil, []string{hides, history}},
		{"labelled, with its limit", set(-1, "2"), set(-1, "1"), []string{history}},
		{"a daemon set labelled", daemons("2", "i"), daemons("1", "i"), nil},
		{"a daemon set of another template", daemons("1", "j"), daemons("1", "i"), []string{hides}},
		{"a cron job's zone", cron("TZ=UTC 0 0 * * *"), cron("0 0 * * *"), []string{"use timeZone instead"}},
		{"a new pod", pod(""), nil, []string{"the Pod's hostname", hides}},
		{"a pod that is changed", pod("2"), pod("1"), nil},
	} {
		begin := func(o object.Object) {
			Default(o)
			PrepareCreate(o, "11111111-2222-3333-4444-555555555555", time.Unix(1, 0))
		}
		if c.old == nil {
			begin(c.o)
		} else {
			begin(c.old)
			Default(c.o)
			PrepareUpdate(c.o, c.old)
		}
		got := Warnings(c.o, c.old)
		ok := len(got) == len(c.want)
		for i := range c.want {
			ok = ok && strings.Contains(got[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
