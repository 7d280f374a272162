package controller_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/controller/memview"
)

// TestQuotaCountsStorage: a claim counts with what its volume may have been given if that is more than it asks for, in whole bytes, and for its class, also where
// an annotation names it.
func TestQuotaCountsStorage(t *testing.T) {
	const all, ofGold = "requests.storage", "gold.storageclass.storage.k8s.io/requests.storage"
	claim := func(name, asks, has, annotated string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d"}}
		c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: kresource.MustParse(asks)}
		if has != "" {
			c.Status.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: kresource.MustParse(has)}
		}
		if annotated != "" {
			c.Annotations = map[string]string{corev1.BetaStorageClassAnnotation: annotated}
		}
		return c
	}
	for _, c := range []struct {
		name    string
		limit   corev1.ResourceName
		is      *corev1.PersistentVolumeClaim
		comes   *corev1.PersistentVolumeClaim
		refusal string
	}{
		{"there is room", all, claim("is", "1Gi", "", ""), claim("comes", "4Gi", "", ""), ""},
		{"growth was taken back", all, claim("is", "1Gi", "4Gi", ""), claim("comes", "3Gi", "", ""), "requested: requests.storage=3Gi, used: requests.storage=4Gi, limited: requests.storage=5Gi"},
		{"it has less than it asks for", all, claim("is", "2Gi", "1Gi", ""), claim("comes", "3Gi", "", ""), ""},
		{"parts of a byte", all, claim("is", "1500m", "", ""), claim("comes", "5Gi", "", ""), "used: requests.storage=2,"},
		{"a class by annotation", ofGold, claim("is", "1Gi", "", ""), claim("comes", "6Gi", "", "gold"), "requested: " + ofGold + "=6Gi"},
		{"growth of that class", ofGold, claim("is", "1Gi", "4Gi", "gold"), claim("comes", "3Gi", "", "gold"), "used: " + ofGold + "=4Gi"},
		{"another class", ofGold, claim("is", "1Gi", "", "gold"), claim("comes", "6Gi", "", "tin"), ""},
	} {
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "d"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{c.limit: kresource.MustParse("5Gi")}}}
		state := memview.New(q, c.is)
		check := controller.BeforeWrite(state, c.comes, nil, time.Now())
		state.Put(c.comes)
		if err := check.After(state); (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%s: the write: %v, want %q", c.name, err, c.refusal)
		}
	}
}

// TestSetsClaimsHeedClasses: the claims that a StatefulSet makes count for the class that an annotation names as well.
func TestSetsClaimsHeedClasses(t *testing.T) {
	w := newWorld(t)
	w.node("n1", "4", "8Gi", nil)
	for _, doc := range []string{
		"{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {gold.storageclass.storage.k8s.io/requests.storage: 5Gi}}}",
		"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 3, podManagementPolicy: Parallel, selector: {matchLabels: {a: b}}, " +
			"template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}, volumeClaimTemplates: [{metadata: {name: data, " +
			"annotations: {volume.beta.kubernetes.io/storage-class: gold}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}]}}",
	} {
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	n := 0
	for range w.state.List("persistentvolumeclaims", "default") {
		n++
	}
	if n != 2 {
		t.Errorf("%d claims of 2Gi of class gold, the quota has room for 2", n)
	}
}
