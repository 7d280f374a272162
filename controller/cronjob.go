package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// cronJobs starts a Job at each time that a CronJob's schedule names. Its input are CronJobs and their Jobs, its output Jobs and the
// CronJob's status. A Job is named by the minute for which it was due, so that one time never has two. cronschedule.go has the times.
type cronJobs struct{}

func (cronJobs) Name() string      { return "cronjob" }
func (cronJobs) Watches() []string { return []string{"cronjobs", "jobs"} }

func (cronJobs) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "cronjobs" {
		if ch.New != nil {
			emit(ch.Key)
		}
		return
	}
	if ch.Old != nil && ch.New != nil && jobFinished(ch.Old.(*batchv1.Job)) == jobFinished(ch.New.(*batchv1.Job)) && sameOwners(ch.Old, ch.New) {
		return
	}
	for _, o := range []object.Object{ch.Old, ch.New} {
		if o != nil {
			emitController(o, "CronJob", "cronjobs", emit)
		}
	}
}

func (cronJobs) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*batchv1.CronJob)
	c := *live
	c.Status = *live.Status.DeepCopy()
	r := cronRun{v: v, now: now, live: live, c: &c}
	for child := range v.Owned(live.UID) {
		if j, isJob := child.(*batchv1.Job); isJob && metav1.IsControlledBy(j, live) {
			r.jobs = append(r.jobs, j)
		}
	}
	r.follow()
	if live.DeletionTimestamp == nil {
		r.start()
	}
	r.prune()
	r.res.Put = append(r.res.Put, r.c)
	return r.res, nil
}

// cronRun is one run for one CronJob.
type cronRun struct {
	v    View
	now  time.Time
	live *batchv1.CronJob
	c    *batchv1.CronJob // what live becomes
	jobs []*batchv1.Job
	res  Result
}

func (r *cronRun) event(kind, reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: kind, Reason: reason, Message: message, Component: "cronjob-controller"})
}

// forget takes a Job off the list of those that run, and tells whether it was there.
func (r *cronRun) forget(j object.Object) bool {
	n := len(r.c.Status.Active)
	r.c.Status.Active = slices.DeleteFunc(r.c.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == j.GetUID() })
	return len(r.c.Status.Active) < n
}

// follow brings the status up to what the Jobs have become.
func (r *cronRun) follow() {
	st := &r.c.Status
	for _, j := range r.jobs {
		listed := slices.ContainsFunc(st.Active, func(ref corev1.ObjectReference) bool { return ref.UID == j.UID })
		if !jobFinished(j) {
			if !listed {
				r.event(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: "+j.Name)
			}
			continue
		}
		done := jobCondition(j, batchv1.JobComplete)
		if r.forget(j) {
			how := batchv1.JobFailed
			if done != nil {
				how = batchv1.JobComplete
			}
			r.event(corev1.EventTypeNormal, "SawCompletedJob", fmt.Sprintf("Saw completed job: %s, condition: %v", j.Name, how))
		}
		if at := j.Status.CompletionTime; done != nil && at != nil && (st.LastSuccessfulTime == nil || at.After(st.LastSuccessfulTime.Time)) {
			st.LastSuccessfulTime = at.DeepCopy()
		}
	}
	st.Active = slices.DeleteFunc(st.Active, func(ref corev1.ObjectReference) bool {
		here := slices.ContainsFunc(r.jobs, func(j *batchv1.Job) bool { return j.UID == ref.UID })
		if !here {
			r.event(corev1.EventTypeNormal, "MissingJob", "Active job went missing: "+ref.Name)
		}
		return !here
	})
	if len(st.Active) == 0 {
		st.Active = nil
	}
}

// start makes the Job that is due, and says when to look again.
func (r *cronRun) start() {
	c := r.c
	if c.Spec.Suspend != nil && *c.Spec.Suspend {
		return
	}
	sched, err := parseSchedule(c)
	if err != nil {
		r.event(corev1.EventTypeWarning, "UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : %s", c.Spec.Schedule, err))
		return
	}
	due, missed, err := sched.due(c, r.now, true)
	if err != nil {
		r.event(corev1.EventTypeWarning, "InvalidSchedule", fmt.Sprintf("invalid schedule: %s : %s", c.Spec.Schedule, err))
		return
	}
	if !due.IsZero() {
		if missed > manyMissed {
			r.event(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
		}
		r.startAt(due, sched)
	}
	r.res.Wake = sched.wake(c, r.now)
}

// startAt makes the Job of a time, unless that time is too long ago, was served already, or the Job before it stands in the way.
func (r *cronRun) startAt(due time.Time, sched schedule) {
	c := r.c
	name := fmt.Sprintf("%s-%d", c.Name, due.Unix()/60)
	deadline := c.Spec.StartingDeadlineSeconds
	switch {
	case deadline != nil && due.Add(time.Duration(*deadline)*time.Second).Before(r.now):
		r.event(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: "+due.UTC().Format(time.RFC1123Z))
		return
	case c.Status.LastScheduleTime != nil && c.Status.LastScheduleTime.Time.Equal(due),
		slices.ContainsFunc(c.Status.Active, func(ref corev1.ObjectReference) bool { return ref.Name == name }):
		return
	case c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(c.Status.Active) > 0:
		r.event(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return
	case c.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		for _, j := range r.jobs {
			if r.forget(j) {
				r.drop(j)
			}
		}
	}
	at := metav1.NewTime(due)
	if o, taken := r.v.Get(object.Key{Resource: "jobs", Namespace: c.Namespace, Name: name}); taken {
		// A time has one Job, whoever made it.
		if metav1.IsControlledBy(o, r.live) {
			c.Status.LastScheduleTime = &at
		}
		return
	}
	j := r.newJob(name, due.In(sched.zone))
	r.res.Put = append(r.res.Put, j)
	r.event(corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+name)
	c.Status.Active = append(c.Status.Active, reference(j))
	c.Status.LastScheduleTime = &at
}

func (r *cronRun) newJob(name string, due time.Time) *batchv1.Job {
	t := &r.live.Spec.JobTemplate
	notes := maps.Clone(t.Annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	handCommit(notes, r.live.Annotations)
	notes[batchv1.CronJobScheduledTimestampAnnotation] = due.Format(time.RFC3339)
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.live.Namespace, UID: HashUID("job", string(r.live.UID), name), Labels: maps.Clone(t.Labels),
			Annotations: notes, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.live, batchv1.SchemeGroupVersion.WithKind("CronJob"))}},
		Spec: *t.Spec.DeepCopy(),
	}
	j.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
	return j
}

// drop deletes a Job with its pods.
func (r *cronRun) drop(j *batchv1.Job) {
	r.res.Delete = append(r.res.Delete, Deletion{Key: object.KeyOf(j), DeleteOptions: DeleteOptions{PropagationPolicy: string(metav1.DeletePropagationBackground)}})
	r.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+j.Name)
}

// prune deletes the oldest finished Jobs that are beyond the history's limits.
func (r *cronRun) prune() {
	for _, side := range []struct {
		how   batchv1.JobConditionType
		limit *int32
	}{{batchv1.JobComplete, r.live.Spec.SuccessfulJobsHistoryLimit}, {batchv1.JobFailed, r.live.Spec.FailedJobsHistoryLimit}} {
		if side.limit == nil {
			continue
		}
		var ended []*batchv1.Job
		for _, j := range r.jobs {
			if jobCondition(j, side.how) != nil && j.DeletionTimestamp == nil {
				ended = append(ended, j)
			}
		}
		slices.SortStableFunc(ended, byStart)
		for _, j := range ended[:max(0, len(ended)-int(*side.limit))] {
			r.forget(j)
			r.drop(j)
		}
	}
}

// byStart orders Jobs by when they started, those that never did last.
func byStart(a, b *batchv1.Job) int {
	s, t := a.Status.StartTime, b.Status.StartTime
	if s == nil || t == nil {
		return cmp.Or(boolFirst(s != nil, t != nil), strings.Compare(a.Name, b.Name))
	}
	return cmp.Or(s.Time.Compare(t.Time), strings.Compare(a.Name, b.Name))
}
