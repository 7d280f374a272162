package controller

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// finishedTTL deletes finished Jobs, with their pods, when spec.ttlSecondsAfterFinished has passed.
type finishedTTL struct{}

func (finishedTTL) Name() string      { return "ttl-after-finished" }
func (finishedTTL) Watches() []string { return []string{"jobs"} }

func (finishedTTL) Keys(_ View, ch Change, emit func(object.Key)) {
	if j, ok := ch.New.(*batchv1.Job); ok && j.Spec.TTLSecondsAfterFinished != nil && j.DeletionTimestamp == nil && jobFinished(j) {
		emit(ch.Key)
	}
}

func (finishedTTL) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	j := o.(*batchv1.Job)
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil || !jobFinished(j) {
		return Result{}, nil
	}
	c := jobCondition(j, batchv1.JobComplete)
	if c == nil {
		c = jobCondition(j, batchv1.JobFailed)
	}
	if at := c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second); at.After(now) {
		return Result{Wake: at}, nil
	}
	return Result{Delete: []Deletion{{Key: key, DeleteOptions: DeleteOptions{PropagationPolicy: string(metav1.DeletePropagationForeground)}}}}, nil
}
