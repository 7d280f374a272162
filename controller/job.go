package controller

import (
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// jobs runs each Job to its end. Its input are Jobs and their pods, its output pods and the Job's status. The rules are those of
// Kubernetes' job controller. A pod carries a finalizer until it is counted, so that one that is deleted is not lost; counting it and
// taking the finalizer away is one transaction here, so that status.uncountedTerminatedPods stays empty.
//
// A key is a Job, or a pod whose Job is gone and which still has the finalizer. The file has the flow; jobpods.go what runs,
// jobcount.go what has ended, jobpolicy.go the policies and the back-off, jobindex.go sets of indexes.
type jobs struct{ admit PodAdmission }

func (jobs) Name() string      { return "job" }
func (jobs) Watches() []string { return []string{"jobs", "pods", "serviceaccounts"} }

func (jobs) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "jobs" {
		if ch.New != nil {
			emit(ch.Key)
			return
		}
		for o := range v.Owned(ch.Old.GetUID()) {
			if p, ok := o.(*corev1.Pod); ok && tracked(p) {
				emit(object.KeyOf(p))
			}
		}
		return
	}
	if ch.Key.Resource == "serviceaccounts" {
		emitForAccount(v, ch, "jobs", emit)
		return
	}
	if ch.Old != nil && ch.New != nil && samePodForJob(ch.Old.(*corev1.Pod), ch.New.(*corev1.Pod)) {
		return
	}
	for _, o := range []object.Object{ch.Old, ch.New} {
		if o != nil {
			emitController(o, "Job", "jobs", emit)
		}
	}
	if p, ok := ch.New.(*corev1.Pod); ok && tracked(p) {
		if _, mine := jobOf(v, p); !mine {
			emit(ch.Key)
		}
	}
}

// samePodForJob tells whether two states of a pod look alike to its Job, which also counts restarts.
func samePodForJob(a, b *corev1.Pod) bool {
	return samePodForOwner(a, b) && tracked(a) == tracked(b) && allRestarts(a) == allRestarts(b)
}

// tracked tells whether a pod is still to be counted by its Job.
func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

// jobOf is the Job that a pod belongs to. mine is false if there is none, and true for a pod of another kind's.
func jobOf(v View, p *corev1.Pod) (j *batchv1.Job, mine bool) {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return nil, false
	}
	owner, state := ownerOf(v, p, *ref)
	if state == absent {
		return nil, false
	}
	j, _ = owner.(*batchv1.Job)
	return j, true
}

func jobCondition(j *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if j.Status.Conditions[i].Type == t && j.Status.Conditions[i].Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

// jobFinished tells whether a Job has come to its end, well or not.
func jobFinished(j *batchv1.Job) bool {
	return jobCondition(j, batchv1.JobComplete) != nil || jobCondition(j, batchv1.JobFailed) != nil
}

// managedElsewhere tells whether a Job is another controller's to run.
func managedElsewhere(j *batchv1.Job) bool {
	return j.Spec.ManagedBy != nil && *j.Spec.ManagedBy != batchv1.JobControllerName
}

func suspended(j *batchv1.Job) bool { return j.Spec.Suspend != nil && *j.Spec.Suspend }

func indexed(j *batchv1.Job) bool {
	return j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batchv1.IndexedCompletion
}

// replaceFailedOnly tells whether a pod counts as failed, and is replaced, only when its containers have ended.
func replaceFailedOnly(j *batchv1.Job) bool {
	return j.Spec.PodFailurePolicy != nil || j.Spec.PodReplacementPolicy != nil && *j.Spec.PodReplacementPolicy == batchv1.Failed
}

func (c jobs) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	if p, isPod := o.(*corev1.Pod); isPod {
		if _, mine := jobOf(v, p); mine || !tracked(p) {
			return Result{}, nil
		}
		return Result{Put: []object.Object{untracked(p)}}, nil
	}
	live := o.(*batchv1.Job)
	if managedElsewhere(live) {
		return Result{}, nil
	}
	r := c.newRun(v, live, now)
	if jobFinished(live) {
		for _, p := range r.pods {
			if tracked(p) {
				r.res.Put = append(r.res.Put, untracked(p))
			}
		}
		return r.res, nil
	}
	r.run()
	return r.res, nil
}

// untracked is a copy of a pod without the finalizer.
func untracked(p *corev1.Pod) *corev1.Pod {
	c := *p
	c.Finalizers = slices.DeleteFunc(slices.Clone(p.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
	return &c
}

// jobRun is one run for one Job.
type jobRun struct {
	admit PodAdmission
	v     View
	now   time.Time
	live  *batchv1.Job
	j     *batchv1.Job // what live becomes

	pods        []*corev1.Pod // all that are the Job's, in the order of names
	active      []*corev1.Pod // those that have neither ended nor are terminating
	terminating int32
	ready       int32

	before, succeededIndexes, failedIndexes indexSet
	succeeded, failed                       int32 // with those that are not counted yet
	delayed                                 map[int]*corev1.Pod
	backoff                                 jobBackoff
	// end is how the Job ends; nil while it does not.
	end *batchv1.JobCondition
	// edited are the pods that will be written, by name; a pod that is also deleted is written first.
	edited map[string]*corev1.Pod
	order  []string
	res    Result
}

func (c jobs) newRun(v View, live *batchv1.Job, now time.Time) *jobRun {
	j := *live
	j.Annotations = maps.Clone(live.Annotations)
	j.Status = *live.Status.DeepCopy()
	r := &jobRun{v: v, admit: c.admit, now: now, live: live, j: &j, edited: map[string]*corev1.Pod{}}
	selector, err := metav1.LabelSelectorAsSelector(live.Spec.Selector)
	for o := range v.Owned(live.UID) {
		p, ok := o.(*corev1.Pod)
		if !ok || !metav1.IsControlledBy(p, live) {
			continue
		}
		if err == nil && p.DeletionTimestamp == nil && live.DeletionTimestamp == nil && !selector.Matches(labelSet(p)) {
			// It was given away by its labels: it is no longer ours, nor counted by us.
			c := untracked(p)
			c.OwnerReferences = slices.DeleteFunc(slices.Clone(p.OwnerReferences), func(ref metav1.OwnerReference) bool { return ref.UID == live.UID })
			r.res.Put = append(r.res.Put, c)
			continue
		}
		r.pods = append(r.pods, p)
		switch {
		case podEnded(p):
		case p.DeletionTimestamp != nil:
			r.terminating++
		default:
			r.active = append(r.active, p)
			if podReady(p) {
				r.ready++
			}
		}
	}
	return r
}

// run makes one pass: how the Job stands, whether it ends, what runs, what is counted.
func (r *jobRun) run() {
	j := r.j
	if j.Status.StartTime == nil && !suspended(j) {
		j.Status.StartTime = r.stamp()
	}
	r.tally()
	r.end = r.judge()
	active := int32(len(r.active))
	if r.end != nil {
		for _, p := range r.active {
			r.remove(p)
		}
		active = 0
	} else {
		managed := j.DeletionTimestamp == nil
		if managed {
			active = r.manage()
		}
		if r.reached(active) {
			r.end = r.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
		} else if managed {
			r.followSuspend()
		}
	}
	j.Status.Active, j.Status.Ready, j.Status.Terminating = active, &r.ready, &r.terminating
	r.count()
	r.finish()
	r.backoff.note(j)
	for _, name := range r.order {
		r.res.Put = append(r.res.Put, r.edited[name])
	}
	r.res.Put = append(r.res.Put, j)
}

func (r *jobRun) stamp() *metav1.Time {
	t := metav1.NewTime(r.now.Truncate(time.Second))
	return &t
}

func (r *jobRun) condition(t batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	at := *r.stamp()
	return &batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue, LastProbeTime: at, LastTransitionTime: at, Reason: reason, Message: message}
}

// reached tells whether as many pods have succeeded as are wanted, and none runs; where no number is given, one suffices.
func (r *jobRun) reached(active int32) bool {
	if r.j.Spec.Completions == nil {
		return r.succeeded > 0 && active == 0
	}
	return r.succeeded >= *r.j.Spec.Completions && active == 0
}

// judge tells whether the Job is to end: what was decided before stands; then come the reasons to fail, then the policy of success.
func (r *jobRun) judge() *batchv1.JobCondition {
	j := r.j
	if met := jobCondition(j, batchv1.JobSuccessCriteriaMet); met != nil {
		return met
	}
	if target := jobCondition(j, batchv1.JobFailureTarget); target != nil {
		return target
	}
	if message := r.failedByPolicy(); message != "" {
		return r.condition(batchv1.JobFailureTarget, batchv1.JobReasonPodFailurePolicy, message)
	}
	fails := func(reason, message string) *batchv1.JobCondition {
		return r.condition(batchv1.JobFailureTarget, reason, message)
	}
	if r.failed > *j.Spec.BackoffLimit || r.restartedTooOften() {
		return fails(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if j.Spec.ActiveDeadlineSeconds != nil && j.Status.StartTime != nil && !suspended(j) {
		at := j.Status.StartTime.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second)
		if !r.now.Before(at) {
			return fails(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		r.wake(at)
	}
	if !indexed(j) {
		return nil
	}
	if j.Spec.BackoffLimitPerIndex != nil {
		bad := r.failedIndexes.total()
		if j.Spec.MaxFailedIndexes != nil && bad > int(*j.Spec.MaxFailedIndexes) {
			return fails(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if bad > 0 && bad+r.succeededIndexes.total() >= int(*j.Spec.Completions) {
			return fails(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if message, met := successPolicy(j.Spec.SuccessPolicy, int(*j.Spec.Completions), r.succeededIndexes); met {
		return r.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, message)
	}
	return nil
}

func (r *jobRun) wake(at time.Time) {
	if r.res.Wake.IsZero() || at.Before(r.res.Wake) {
		r.res.Wake = at
	}
}

// followSuspend keeps the condition Suspended; the time of start is that since which the Job has not been suspended.
func (r *jobRun) followSuspend() {
	if suspended(r.j) {
		if r.setCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			r.event(corev1.EventTypeNormal, "Suspended", "Job suspended")
			r.j.Status.StartTime = nil
		}
		return
	}
	if r.setCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed") {
		r.event(corev1.EventTypeNormal, "Resumed", "Job resumed")
		r.j.Status.StartTime = r.stamp()
	}
}

// setCondition sets a condition, and tells whether that changed it. One that is not there is not made false.
func (r *jobRun) setCondition(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	c := r.condition(t, reason, message)
	c.Status = status
	for i := range r.j.Status.Conditions {
		if had := &r.j.Status.Conditions[i]; had.Type == t {
			if had.Status == status && had.Reason == reason && had.Message == message {
				return false
			}
			*had = *c
			return true
		}
	}
	if status == corev1.ConditionFalse {
		return false
	}
	r.j.Status.Conditions = append(r.j.Status.Conditions, *c)
	return true
}

// finish writes how the Job ends: that it will, as soon as that is known; that it has, when none of its pods terminates any more.
func (r *jobRun) finish() {
	if r.end == nil {
		return
	}
	r.setCondition(r.end.Type, corev1.ConditionTrue, r.end.Reason, r.end.Message)
	if r.terminating > 0 {
		return
	}
	if r.end.Type == batchv1.JobFailureTarget {
		r.setCondition(batchv1.JobFailed, corev1.ConditionTrue, r.end.Reason, r.end.Message)
		r.event(corev1.EventTypeWarning, r.end.Reason, r.end.Message)
		return
	}
	r.setCondition(batchv1.JobComplete, corev1.ConditionTrue, r.end.Reason, r.end.Message)
	r.j.Status.CompletionTime = r.stamp()
	if r.j.Spec.Completions != nil && r.j.Status.Succeeded > *r.j.Spec.Completions {
		r.event(corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	r.event(corev1.EventTypeNormal, "Completed", "Job completed")
}

func (r *jobRun) event(kind, reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: kind, Reason: reason, Message: message, Component: "job-controller"})
}
