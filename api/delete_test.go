package api

import (
	"net/http"
	"net/http/httptest"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"reconcile/object"
)

// TestPropagation: what becomes of the dependents is what the client says, in the old words or the new, else what has begun, else what the kind does.
func TestPropagation(t *testing.T) {
	const background, foreground, orphan = metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan
	with := func(finalizers ...string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "x", Finalizers: finalizers}
	}
	for name, c := range map[string]struct {
		old  object.Object
		o    metav1.DeleteOptions
		want metav1.DeletionPropagation
	}{
		"nothing said":                   {&appsv1.Deployment{ObjectMeta: with()}, metav1.DeleteOptions{}, ""},
		"a job, nothing said":            {&batchv1.Job{ObjectMeta: with()}, metav1.DeleteOptions{}, orphan},
		"a job, begun":                   {&batchv1.Job{ObjectMeta: with(metav1.FinalizerDeleteDependents)}, metav1.DeleteOptions{}, ""},
		"a job, begun, and said anew":    {&batchv1.Job{ObjectMeta: with(metav1.FinalizerDeleteDependents)}, metav1.DeleteOptions{PropagationPolicy: ptr.To(orphan)}, orphan},
		"a job with another's finalizer": {&batchv1.Job{ObjectMeta: with("example.com/hold")}, metav1.DeleteOptions{}, orphan},
		"a job, in the foreground":       {&batchv1.Job{ObjectMeta: with()}, metav1.DeleteOptions{PropagationPolicy: ptr.To(foreground)}, foreground},
		"a job, old words":               {&batchv1.Job{ObjectMeta: with()}, metav1.DeleteOptions{OrphanDependents: ptr.To(false)}, background},  //nolint:staticcheck // old clients send it
		"old words":                      {&appsv1.Deployment{ObjectMeta: with()}, metav1.DeleteOptions{OrphanDependents: ptr.To(true)}, orphan}, //nolint:staticcheck // old clients send it
	} {
		if got := propagation(c.old, &c.o); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestDeleteOptionsOfTheQuery reads what clients without a body say in the query.
func TestDeleteOptionsOfTheQuery(t *testing.T) {
	r := httptest.NewRequest(http.MethodDelete, "/api/v1/namespaces/default/pods/p?orphanDependents=true&gracePeriodSeconds=7&dryRun=All", nil)
	o, dry, err := deleteOptions(r)
	if err != nil || !dry || o.OrphanDependents == nil || !*o.OrphanDependents || *o.GracePeriodSeconds != 7 { //nolint:staticcheck // old clients send it
		t.Errorf("%+v, dry %v, %v", o, dry, err)
	}
	r = httptest.NewRequest(http.MethodDelete, "/api/v1/namespaces/default/pods/p?orphanDependents=perhaps", nil)
	if _, _, err := deleteOptions(r); !apierrors.IsBadRequest(err) {
		t.Errorf("a wrong one: %v", err)
	}
}
