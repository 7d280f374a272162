package schema

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

func TestConstraints(t *testing.T) {
	c, err := NewConstraints()
	if err != nil {
		t.Fatal(err)
	}
	n := int32(20_000)
	for _, tc := range []struct {
		name string
		o    object.Object
		want []Violation
	}{
		{"fine", &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{SchedulerName: "default-scheduler",
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}}}}}, nil},
		{"no rules", &corev1.ConfigMap{}, nil},
		{"several", &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &n, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{SchedulerName: "mine", // profiles and other schedulers
			Volumes: []corev1.Volume{{Name: "ok"}, {Name: "v", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}}}}}, []Violation{
			{"spec.replicas", "a deployment has at most 10000 replicas"},
			{"spec.template.spec.volumes[1].nfs", "volumes of this type are not supported yet; use emptyDir, configMap or secret"}}},
		{"node port", &corev1.Service{Spec: corev1.ServiceSpec{Type: "NodePort"}}, []Violation{
			{"spec.type", "node ports and load balancers are not supported yet; use ClusterIP"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := object.KindOfObject(tc.o)
			if err != nil {
				t.Fatal(err)
			}
			got := c.Check(k, tc.o)
			slices.SortFunc(got, func(a, b Violation) int { return slices.Compare([]byte(a.Path), []byte(b.Path)) })
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// BenchmarkConstraints measures one Deployment against the compact rules. The aim is 1 ms of CPU at most.
func BenchmarkConstraints(b *testing.B) {
	c, err := NewConstraints()
	if err != nil {
		b.Fatal(err)
	}
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{SchedulerName: "default-scheduler",
		Containers: []corev1.Container{{Name: "a", Image: "b", Env: []corev1.EnvVar{{Name: "x", Value: "y"}}}, {Name: "b", Image: "c"}}}}}}
	k, err := object.KindOfObject(d)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := c.Check(k, d); len(got) != 0 {
			b.Fatal(got)
		}
	}
}
