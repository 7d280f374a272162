package controller

import (
	"slices"
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
	if j, ok := ch.New.(*batchv1.Job); ok && endsByTime(j) {
		emit(ch.Key)
	}
}

func (finishedTTL) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	j := o.(*batchv1.Job)
	if !endsByTime(j) {
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

// endsByTime tells that a job is to go when its time has passed. The time of a job of git counts only if git set it: nobody else may delete the job.
func endsByTime(j *batchv1.Job) bool {
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil || !jobFinished(j) {
		return false
	}
	source, ofGit := j.Annotations[object.AnnotationSource]
	return !ofGit || slices.ContainsFunc(j.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		if e.Manager != object.GitManager(source) || e.FieldsV1 == nil {
			return false
		}
		set, err := object.ParseFields(e.FieldsV1.GetRawBytes())
		return err == nil && set.Owns([]string{"f:spec", "f:ttlSecondsAfterFinished"})
	})
}
