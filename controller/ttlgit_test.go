package controller_test

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestFinishedJobsOfGit: a finished job goes after its time, but one of git only if git set the time: a job that was adopted may have had one.
func TestFinishedJobsOfGit(t *testing.T) {
	w := newWorld(t)
	ttl := int32(0)
	for _, tc := range []struct {
		name  string
		ofGit bool
		sets  string
		stays bool
	}{
		{"kubectl's", false, "", false},
		{"adopted", true, `{"f:spec":{"f:template":{}}}`, true},
		{"timed by git", true, `{"f:spec":{"f:ttlSecondsAfterFinished":{}}}`, false},
	} {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", Namespace: "default", UID: "u", CreationTimestamp: metav1.NewTime(time.Unix(1, 0))}}
		j.Spec.TTLSecondsAfterFinished = &ttl
		j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(2, 0))}}
		if tc.ofGit {
			j.Annotations = map[string]string{object.AnnotationSource: "cluster"}
			j.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: object.GitManager("cluster"), Operation: metav1.ManagedFieldsOperationApply,
				FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(tc.sets)}}
		}
		w.state.Put(j)
		w.settle()
		key := object.Key{Resource: "jobs", Namespace: "default", Name: "j"}
		if _, ok := w.state.Get(key); ok != tc.stays {
			t.Errorf("%s: is there %t, want %t", tc.name, ok, tc.stays)
		}
		w.state.Delete(key)
		w.settle()
	}
}
