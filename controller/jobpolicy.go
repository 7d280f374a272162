package controller

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// How long a Job waits after failures before it makes pods again: 10 s, doubled by every further failure, 10 min at most.
const (
	jobBackoffFirst = 10 * time.Second
	jobBackoffMost  = 10 * time.Minute
)

// annotationBackoff is where a Job keeps its failures since the last success, and when the last one was: "3 2026-01-01T12:00:00Z".
const annotationBackoff = "reconcile.local/backoff"

// jobBackoff is what a Job remembers of its failures. A Job whose indexes have a limit of their own remembers nothing: its pods do.
type jobBackoff struct {
	failures int
	last     time.Time
}

func readBackoff(j *batchv1.Job) jobBackoff {
	n, at, _ := strings.Cut(j.Annotations[annotationBackoff], " ")
	failures, err := strconv.Atoi(n)
	last, bad := time.Parse(time.RFC3339, at)
	if err != nil || bad != nil {
		return jobBackoff{}
	}
	return jobBackoff{failures, last}
}

// after adds what ended since: failures before the last success are forgotten.
func (b jobBackoff) after(succeeded, failed []*corev1.Pod) jobBackoff {
	var success time.Time
	for _, p := range succeeded {
		if at := finishedAt(p); at.After(success) {
			success = at
		}
	}
	if len(succeeded) > 0 {
		b = jobBackoff{}
	}
	for _, p := range failed {
		at := finishedAt(p)
		if len(succeeded) > 0 && !at.After(success) {
			continue
		}
		b.failures++
		if at.After(b.last) {
			b.last = at
		}
	}
	return b
}

// until is when pods may be made again.
func (b jobBackoff) until() time.Time {
	if b.failures == 0 {
		return time.Time{}
	}
	wait := jobBackoffFirst
	for i := 1; i < b.failures && wait < jobBackoffMost; i++ {
		wait *= 2
	}
	return b.last.Add(min(wait, jobBackoffMost))
}

// note keeps the memory with the Job.
func (b jobBackoff) note(j *batchv1.Job) {
	if b.failures == 0 {
		delete(j.Annotations, annotationBackoff)
		return
	}
	if j.Annotations == nil {
		j.Annotations = map[string]string{}
	}
	j.Annotations[annotationBackoff] = strconv.Itoa(b.failures) + " " + b.last.UTC().Format(time.RFC3339)
}

// finishedAt is when a pod ended: when its last container did; else since when it is not ready; else when its deletion was asked for.
func finishedAt(p *corev1.Pod) time.Time {
	if at, all := containersEnded(p); all {
		return at
	}
	if c := podCondition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if p.DeletionTimestamp != nil {
		grace := int64(0)
		if p.DeletionGracePeriodSeconds != nil {
			grace = *p.DeletionGracePeriodSeconds
		}
		return p.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
	}
	return p.CreationTimestamp.Time
}

// containersEnded is when the last container or sidecar ended; all is false if one has not, or if none is known.
func containersEnded(p *corev1.Pod) (last time.Time, all bool) {
	statuses := slices.Clone(p.Status.ContainerStatuses)
	for _, st := range p.Status.InitContainerStatuses {
		if isSidecar(p, st.Name) {
			statuses = append(statuses, st)
		}
	}
	for i := range statuses {
		t := statuses[i].State.Terminated
		if t == nil || t.FinishedAt.IsZero() {
			return time.Time{}, false
		}
		if t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	return last, len(statuses) > 0
}

// allRestarts is how often all containers of a pod were restarted together.
func allRestarts(p *corev1.Pod) (n int32) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			n += list[i].RestartCount
		}
	}
	return n
}

// restartedTooOften tells whether the containers of running pods were restarted as often as pods may fail.
func (r *jobRun) restartedTooOften() bool {
	if r.j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	n := int32(0)
	for _, p := range r.pods {
		if p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending {
			n += allRestarts(p)
		}
	}
	return n >= max(1, *r.j.Spec.BackoffLimit)
}

// podFailed tells whether a pod counts as failed. A terminating one does, unless only what has ended is replaced.
func (r *jobRun) podFailed(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed || !replaceFailedOnly(r.j) && p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

// failedByPolicy is the message of the first failed pod for which the policy fails the whole Job; empty if there is none.
func (r *jobRun) failedByPolicy() string {
	if r.j.Spec.PodFailurePolicy == nil {
		return ""
	}
	for _, p := range r.pods {
		if r.podFailed(p) {
			if action, message := failurePolicy(r.j.Spec.PodFailurePolicy, p); action == batchv1.PodFailurePolicyActionFailJob {
				return message
			}
		}
	}
	return ""
}

// failurePolicy is what the first rule that matches a failed pod asks for, Count if none does, and the message of FailJob.
func failurePolicy(policy *batchv1.PodFailurePolicy, p *corev1.Pod) (action batchv1.PodFailurePolicyAction, message string) {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		what := ""
		switch {
		case rule.OnExitCodes != nil:
			if st := matchingExit(&p.Status, rule.OnExitCodes); st != nil {
				what = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", st.Name, p.Namespace, p.Name, st.State.Terminated.ExitCode)
			}
		case rule.OnPodConditions != nil:
			if c := matchingCondition(&p.Status, rule.OnPodConditions); c != nil {
				what = fmt.Sprintf("Pod %s/%s has condition %s", p.Namespace, p.Name, c.Type)
			}
		}
		if what != "" {
			return rule.Action, fmt.Sprintf("%s matching %s rule at index %d", what, rule.Action, i)
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// matchingExit is the first container that ended with one of the codes asked for, 0 never among them.
func matchingExit(st *corev1.PodStatus, want *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != c.Name {
				continue
			}
			if slices.Contains(want.Values, c.State.Terminated.ExitCode) == (want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return c
			}
		}
	}
	return nil
}

func matchingCondition(st *corev1.PodStatus, want []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i := range st.Conditions {
		c := &st.Conditions[i]
		if slices.ContainsFunc(want, func(w batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
			return w.Type == c.Type && w.Status == c.Status
		}) {
			return c
		}
	}
	return nil
}

// successPolicy tells which rule the indexes that succeeded fulfil.
func successPolicy(policy *batchv1.SuccessPolicy, completions int, succeeded indexSet) (message string, met bool) {
	if policy == nil || len(succeeded) == 0 {
		return "", false
	}
	for i, rule := range policy.Rules {
		have := succeeded.total()
		want := math.MaxInt
		if rule.SucceededIndexes != nil {
			asked := parseIndexes(*rule.SucceededIndexes, completions)
			if len(asked) == 0 {
				continue
			}
			have, want = succeeded.common(asked), asked.total()
		}
		if rule.SucceededCount != nil {
			want = min(want, int(*rule.SucceededCount))
		}
		if have >= want {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}

// failuresOf reads how often pods of the pod's index failed before it: those that counted, and those that a policy ignored.
func failuresOf(p *corev1.Pod) (counted, ignored int) {
	read := func(name string) int {
		n, err := strconv.Atoi(p.Annotations[name])
		if err != nil || n < 0 || n > math.MaxInt32 {
			return 0
		}
		return n
	}
	return read(batchv1.JobIndexFailureCountAnnotation), read(batchv1.JobIndexIgnoredFailureCountAnnotation)
}

// indexFailed tells whether the index of a failed pod has failed for good.
func (r *jobRun) indexFailed(p *corev1.Pod) bool {
	if !r.podFailed(p) {
		return false
	}
	action, _ := failurePolicy(r.j.Spec.PodFailurePolicy, p)
	counted, _ := failuresOf(p)
	return action == batchv1.PodFailurePolicyActionFailIndex || action != batchv1.PodFailurePolicyActionIgnore && counted >= int(*r.j.Spec.BackoffLimitPerIndex)
}

// indexBackoff is when the pod of an index may be made, given the one that failed last; nil for none.
func indexBackoff(last *corev1.Pod) time.Time {
	if last == nil {
		return time.Time{}
	}
	counted, ignored := failuresOf(last)
	return jobBackoff{counted + ignored + 1, finishedAt(last)}.until()
}

// compareActive orders active pods by who goes first: unassigned, pending, unready, ready for less long, more restarts, younger.
func compareActive(a, b *corev1.Pod) int {
	ready := 0
	if podReady(a) && podReady(b) {
		ready = readySince(b).Compare(readySince(a))
	}
	return cmp.Or(
		boolFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
		cmp.Compare(phaseRank(a), phaseRank(b)),
		boolFirst(!podReady(a), !podReady(b)),
		ready,
		compareRestarts(a, b),
		b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
		cmp.Compare(slotOf(b), slotOf(a)),
		cmp.Compare(a.Name, b.Name),
	)
}

// slotOf is a pod's place among those of its owner, -1 if it has none.
func slotOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[object.AnnotationSlot])
	if err != nil {
		return -1
	}
	return n
}
