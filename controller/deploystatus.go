package controller

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
)

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func condition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

// setCondition sets a condition unless it says the same already; the time of transition moves only with the status.
func (r *rollout) setCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	had := condition(r.d, t)
	if had != nil && had.Status == status && had.Reason == reason {
		return
	}
	r.refreshCondition(t, status, reason, message)
}

// refreshCondition sets a condition and its time of update even if it says the same.
func (r *rollout) refreshCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(r.now.Truncate(time.Second))
	c := appsv1.DeploymentCondition{Type: t, Status: status, LastUpdateTime: now, LastTransitionTime: now, Reason: reason, Message: message}
	if had := condition(r.d, t); had != nil && had.Status == status {
		c.LastTransitionTime = had.LastTransitionTime
	}
	r.d.Status.Conditions = append(slices.DeleteFunc(r.d.Status.Conditions, func(x appsv1.DeploymentCondition) bool { return x.Type == t }), c)
}

// notePause tells in the Progressing condition that a pause began or ended, since the deadline does not run meanwhile.
func (r *rollout) notePause() {
	if !hasDeadline(r.d) {
		return
	}
	c := condition(r.d, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return
	}
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && paused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

// complete tells whether all of a Deployment's pods are new and available, and no others are left.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	n := *d.Spec.Replicas
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

// statusOnly counts pods and sets the Available condition.
func (r *rollout) statusOnly() {
	s := &r.d.Status
	s.ObservedGeneration = r.live.Generation
	s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	terminating, told := int32(0), false
	for _, rs := range r.sets {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
			told = true
		}
	}
	if s.TerminatingReplicas = nil; told {
		s.TerminatingReplicas = &terminating
	}
	if r.fresh != nil {
		s.UpdatedReplicas = r.fresh.Status.Replicas
	}
	s.UnavailableReplicas = max(0, sumSpec(r.sets)-s.AvailableReplicas)
	if s.AvailableReplicas >= *r.d.Spec.Replicas-maxUnavailable(r.d) {
		r.setCondition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		r.setCondition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
}

// rolloutStatus is statusOnly and the Progressing condition: complete, progressing, or stuck for longer than the deadline.
func (r *rollout) rolloutStatus() {
	before := r.live.Status
	r.statusOnly()
	r.replicaFailure()
	if !hasDeadline(r.d) {
		r.d.Status.Conditions = slices.DeleteFunc(r.d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentProgressing })
		return
	}
	s := &r.d.Status
	c := condition(r.d, appsv1.DeploymentProgressing)
	if s.Replicas == s.UpdatedReplicas && (s.Replicas > 0 || *r.d.Spec.Replicas == 0) && c != nil && c.Reason == reasonAvailable {
		// A finished rollout that loses pods is not a rollout again. One of Recreate that waits with no pod at all is.
		return
	}
	what := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.fresh != nil {
		what = fmt.Sprintf("ReplicaSet %q", r.fresh.Name)
	}
	switch {
	case complete(r.d, s):
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, what+" has successfully progressed.")
	case advanced(&before, s):
		r.refreshCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", what+" is progressing.")
	case r.timedOut(c):
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, what+" has timed out progressing.")
	}
	r.wakeAtDeadline()
}

// replicaFailure says what a ReplicaSet says of pods that were refused; the new one's words come first.
func (r *rollout) replicaFailure() {
	sets := r.old()
	if r.fresh != nil {
		sets = append([]*appsv1.ReplicaSet{r.fresh}, sets...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				r.setCondition(appsv1.DeploymentReplicaFailure, c.Status, c.Reason, c.Message)
				return
			}
		}
	}
	r.d.Status.Conditions = slices.DeleteFunc(r.d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentReplicaFailure })
}

func advanced(before, now *appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas || now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas || now.AvailableReplicas > before.AvailableReplicas
}

func (r *rollout) deadline(c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

func (r *rollout) timedOut(c *appsv1.DeploymentCondition) bool {
	if c == nil || c.Reason == reasonAvailable {
		return false
	}
	return c.Reason == reasonTimedOut || !r.now.Before(r.deadline(c))
}

func (r *rollout) wakeAtDeadline() {
	c := condition(r.d, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonTimedOut || c.Reason == reasonAvailable || c.Reason == reasonPaused {
		return
	}
	if at := r.deadline(c); at.After(r.now) {
		r.res.Wake = at
	}
}
