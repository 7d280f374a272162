package controller

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// tally sums up what has ended, with what is not counted in the status yet.
func (r *jobRun) tally() {
	j := r.j
	var succeeded, failed []*corev1.Pod
	ignored := 0
	for _, p := range r.pods {
		if !tracked(p) || !validIndex(j, p) {
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded {
			succeeded = append(succeeded, p)
		}
		if r.podFailed(p) {
			failed = append(failed, p)
			if action, _ := failurePolicy(j.Spec.PodFailurePolicy, p); action == batchv1.PodFailurePolicyActionIgnore {
				ignored++
			}
		}
	}
	r.succeeded = j.Status.Succeeded + int32(len(succeeded))
	r.failed = j.Status.Failed + int32(len(failed)-ignored)
	if j.Spec.BackoffLimitPerIndex == nil {
		r.backoff = readBackoff(j).after(succeeded, failed)
	}
	if !indexed(j) {
		return
	}
	limit := int(*j.Spec.Completions)
	r.before = parseIndexes(j.Status.CompletedIndexes, limit)
	r.succeededIndexes = r.before.with(indexesOf(succeeded)...)
	r.succeeded = int32(r.succeededIndexes.total())
	if j.Spec.BackoffLimitPerIndex == nil {
		return
	}
	if j.Status.FailedIndexes != nil {
		r.failedIndexes = parseIndexes(*j.Status.FailedIndexes, limit)
	}
	for _, p := range failed {
		if r.indexFailed(p) {
			r.failedIndexes = r.failedIndexes.with(indexOf(p))
		}
	}
	r.delay(failed)
}

// delay notes the last failed pod of each index that is to be tried again: it is kept until its successor is made, which takes the
// number of failures over from it.
func (r *jobRun) delay(failed []*corev1.Pod) {
	r.delayed = map[int]*corev1.Pod{}
	running := indexSet(nil).with(indexesOf(r.active)...)
	for _, p := range failed {
		x := indexOf(p)
		if r.succeededIndexes.has(x) || r.failedIndexes.has(x) || running.has(x) {
			continue
		}
		if last := r.delayed[x]; last != nil {
			had, hadIgnored := failuresOf(last)
			n, ignored := failuresOf(p)
			if had+hadIgnored > n+ignored || finishedAt(p).Before(finishedAt(last)) {
				continue
			}
		}
		r.delayed[x] = p
	}
}

// count takes the ended pods into the status, and lets go of them. When the Job ends, what still runs counts as failed, unless
// it ends because enough has succeeded.
func (r *jobRun) count() {
	j := r.j
	over := r.end != nil && r.end.Type == batchv1.JobFailureTarget
	for _, p := range r.pods {
		failed := r.podFailed(p)
		if !tracked(p) || !r.mayLetGo(p, failed) {
			continue
		}
		if c, discarded := r.edited[p.Name]; discarded && !tracked(c) {
			continue
		}
		r.untrack(p)
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			if !indexed(j) {
				j.Status.Succeeded++
			}
		case (failed || over) && validIndex(j, p):
			if action, _ := failurePolicy(j.Spec.PodFailurePolicy, p); action != batchv1.PodFailurePolicyActionIgnore {
				j.Status.Failed++
			}
		}
	}
	j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	if !indexed(j) {
		return
	}
	j.Status.CompletedIndexes, j.Status.Succeeded = r.succeededIndexes.String(), int32(r.succeededIndexes.total())
	j.Status.FailedIndexes = nil
	if j.Spec.BackoffLimitPerIndex != nil {
		text := r.failedIndexes.String()
		j.Status.FailedIndexes = &text
	}
}

// mayLetGo tells whether a pod need not be kept any longer.
func (r *jobRun) mayLetGo(p *corev1.Pod, failed bool) bool {
	if r.j.DeletionTimestamp != nil || r.end != nil || p.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return failed && r.delayed[indexOf(p)] != p
}
