package admission

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPodsOfTemplatesHaveAPodsDefaults completes a pod as controllers make it from a template: what Kubernetes defaults in pods and not in templates
// must be there, and the template must stay as it is.
func TestPodsOfTemplatesHaveAPodsDefaults(t *testing.T) {
	limits := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi")}
	template := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Limits: limits, Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}}}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p"}, Spec: template}
	if err := Complete(p, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if cpu := p.Spec.Containers[0].Resources.Requests.Cpu().String(); cpu != "2" || p.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("requests %s of the processor, class %s; want what is the limit, Guaranteed", cpu, p.Status.QOSClass)
	}
	if p.Spec.EnableServiceLinks == nil || !*p.Spec.EnableServiceLinks {
		t.Error("enableServiceLinks is not defaulted")
	}
	if n := len(template.Containers[0].Resources.Requests); n != 1 {
		t.Errorf("the template has %d requests now", n)
	}
}
