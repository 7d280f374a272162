package controller

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"reconcile/object"
)

// kstatus' words (sigs.k8s.io/cli-utils, pkg/kstatus: its rules for the kinds that we have).
const (
	statusCurrent     = "Current"
	statusInProgress  = "InProgress"
	statusFailed      = "Failed"
	statusTerminating = "Terminating"
	statusNotFound    = "NotFound"
)

// Status tells how far the machines have followed an object, in kstatus' words, and why it is not Current.
func Status(v View, key object.Key) (status, message string) { return kstatusOf(v, key) }

func kstatusOf(v View, key object.Key) (status, message string) {
	o, ok := v.Get(key)
	if !ok {
		return statusNotFound, "the object is not there"
	}
	if o.GetDeletionTimestamp() != nil {
		return statusTerminating, "the object is being deleted"
	}
	if k, err := object.KindOfObject(o); err != nil || k.Stored().Dormant {
		// Nobody would ever say more about it.
		return statusCurrent, ""
	}
	switch o := o.(type) {
	case *appsv1.Deployment:
		return deploymentStatus(v, o)
	case *appsv1.ReplicaSet:
		return replicaSetStatus(v, o)
	case *corev1.ReplicationController:
		return replicationControllerStatus(v, o)
	case *appsv1.StatefulSet:
		return statefulSetStatus(v, o)
	case *appsv1.DaemonSet:
		return daemonSetStatus(v, o)
	case *batchv1.Job:
		return jobStatus(o)
	case *corev1.PersistentVolumeClaim:
		if o.Status.Phase != corev1.ClaimBound {
			return statusInProgress, fmt.Sprintf("the claim is not Bound, its phase is %s", o.Status.Phase)
		}
	case *policyv1.PodDisruptionBudget:
		if o.Status.ObservedGeneration < o.Generation {
			return behind(o.Generation, o.Status.ObservedGeneration)
		}
	case *corev1.Pod:
		return podStatus(o)
	case *corev1.Service:
		if o.Spec.Type == corev1.ServiceTypeLoadBalancer && len(o.Status.LoadBalancer.Ingress) == 0 {
			return statusInProgress, "the load balancer has no address yet"
		}
	}
	return statusCurrent, ""
}

func deploymentStatus(v View, d *appsv1.Deployment) (status, message string) {
	if d.Status.ObservedGeneration < d.Generation {
		return behind(d.Generation, d.Status.ObservedGeneration)
	}
	if d.Spec.Paused {
		return statusInProgress, "the rollout is paused"
	}
	n, s := *d.Spec.Replicas, &d.Status
	var text string
	switch {
	case s.UpdatedReplicas < n:
		text = fmt.Sprintf("Updated: %d/%d", s.UpdatedReplicas, n)
	case s.Replicas > s.UpdatedReplicas:
		text = fmt.Sprintf("Pending termination: %d", s.Replicas-s.UpdatedReplicas)
	case s.ReadyReplicas < n:
		text = fmt.Sprintf("Ready: %d/%d", s.ReadyReplicas, n)
	case s.AvailableReplicas < n:
		text = fmt.Sprintf("Available: %d/%d", s.AvailableReplicas, n)
	default:
		return statusCurrent, ""
	}
	text += because(v, d)
	if c := condition(d, appsv1.DeploymentProgressing); c != nil && c.Reason == reasonTimedOut {
		return statusFailed, "Progress deadline exceeded, " + text
	}
	return statusInProgress, text
}

func replicaSetStatus(v View, rs *appsv1.ReplicaSet) (status, message string) {
	n, s := replicas(rs), &rs.Status
	var text string
	switch {
	case s.ObservedGeneration < rs.Generation:
		return behind(rs.Generation, s.ObservedGeneration)
	case s.Replicas > n:
		text = fmt.Sprintf("Pending termination: %d", s.Replicas-n)
	case s.AvailableReplicas < n:
		text = fmt.Sprintf("Available: %d/%d", s.AvailableReplicas, n)
	case s.ReadyReplicas < n:
		text = fmt.Sprintf("Ready: %d/%d", s.ReadyReplicas, n)
	default:
		return statusCurrent, ""
	}
	return statusInProgress, text + because(v, rs)
}

func behind(generation, observed int64) (status, message string) {
	return statusInProgress, fmt.Sprintf("generation is %d, observed is %d", generation, observed)
}

func replicationControllerStatus(v View, rc *corev1.ReplicationController) (status, message string) {
	if rc.Spec.Template == nil {
		return statusCurrent, ""
	}
	as := asReplicaSet(rc)
	s := &rc.Status
	as.Status = appsv1.ReplicaSetStatus{Replicas: s.Replicas, ReadyReplicas: s.ReadyReplicas, AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration}
	for _, c := range s.Conditions {
		as.Status.Conditions = append(as.Status.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, Reason: c.Reason, Message: c.Message})
	}
	return replicaSetStatus(v, as)
}

func statefulSetStatus(v View, set *appsv1.StatefulSet) (status, message string) {
	n, s := int32(1), &set.Status
	if set.Spec.Replicas != nil {
		n = *set.Spec.Replicas
	}
	var text string
	switch {
	case s.ObservedGeneration < set.Generation:
		return behind(set.Generation, s.ObservedGeneration)
	case set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return statusCurrent, ""
	case s.Replicas < n:
		text = fmt.Sprintf("Replicas: %d/%d", s.Replicas, n)
	case s.ReadyReplicas < n:
		text = fmt.Sprintf("Ready: %d/%d", s.ReadyReplicas, n)
	case s.Replicas > n:
		text = fmt.Sprintf("Pending termination: %d", s.Replicas-n)
	}
	if text != "" {
		return statusInProgress, text + because(v, set)
	}
	if ru := set.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.Partition != nil && *ru.Partition > 0 {
		if s.UpdatedReplicas < n-*ru.Partition {
			return statusInProgress, fmt.Sprintf("Updated: %d/%d behind partition %d", s.UpdatedReplicas, n-*ru.Partition, *ru.Partition) + because(v, set)
		}
		return statusCurrent, ""
	}
	if s.UpdatedReplicas < n || s.CurrentRevision != s.UpdateRevision {
		return statusInProgress, fmt.Sprintf("Updated: %d/%d", s.UpdatedReplicas, n) + because(v, set)
	}
	return statusCurrent, ""
}

func daemonSetStatus(v View, ds *appsv1.DaemonSet) (status, message string) {
	n, s := ds.Status.DesiredNumberScheduled, &ds.Status
	var text string
	switch {
	case s.ObservedGeneration < ds.Generation:
		return behind(ds.Generation, s.ObservedGeneration)
	case s.CurrentNumberScheduled < n:
		text = fmt.Sprintf("Current: %d/%d", s.CurrentNumberScheduled, n)
	case s.UpdatedNumberScheduled < n && ds.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType:
		text = fmt.Sprintf("Updated: %d/%d", s.UpdatedNumberScheduled, n)
	case s.NumberAvailable < n:
		text = fmt.Sprintf("Available: %d/%d", s.NumberAvailable, n)
	case s.NumberReady < n:
		text = fmt.Sprintf("Ready: %d/%d", s.NumberReady, n)
	default:
		return statusCurrent, ""
	}
	return statusInProgress, text + because(v, ds)
}

// jobStatus calls a Job Current when it has begun: a commit is not to wait until a long one has run.
func jobStatus(j *batchv1.Job) (status, message string) {
	if c := jobCondition(j, batchv1.JobFailed); c != nil {
		return statusFailed, "the job has failed: " + join(c.Reason, c.Message)
	}
	if j.Status.StartTime == nil && jobCondition(j, batchv1.JobSuspended) == nil && jobCondition(j, batchv1.JobComplete) == nil && !managedElsewhere(j) {
		return statusInProgress, "the job has not started"
	}
	return statusCurrent, ""
}

// because is why o makes no pods, or else what the first pod below it that is not ready says, behind a comma.
func because(v View, o object.Object) string {
	if rs, ok := o.(*appsv1.ReplicaSet); ok {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				return ", " + join(c.Reason, c.Message)
			}
		}
	}
	for child := range v.Owned(o.GetUID()) {
		switch c := child.(type) {
		case *appsv1.ReplicaSet:
			if replicas(c) == 0 {
				continue
			}
			if t := because(v, c); t != "" {
				return t
			}
		case *corev1.Pod:
			if c.DeletionTimestamp != nil || podReady(c) {
				continue
			}
			if t := PodReason(c); t != "" {
				return ", pod " + c.Name + ": " + t
			}
		}
	}
	return ""
}

// PodReason is why a pod is not ready, in one line: no node, a container that waits or has ended; empty if it does not say.
func PodReason(p *corev1.Pod) string {
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return c.Message
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			st := &list[i].State
			switch {
			case st.Waiting != nil && st.Waiting.Reason != "" && st.Waiting.Reason != "PodInitializing" && st.Waiting.Reason != "ContainerCreating":
				return join(st.Waiting.Reason, st.Waiting.Message)
			case st.Terminated != nil && st.Terminated.ExitCode != 0:
				return fmt.Sprintf("container %s ended with exit code %d (%s)", list[i].Name, st.Terminated.ExitCode, st.Terminated.Reason)
			}
		}
	}
	return join(p.Status.Reason, p.Status.Message)
}

func join(reason, message string) string {
	if message == "" {
		return reason
	}
	if reason == "" {
		return message
	}
	return reason + ": " + message
}

func podStatus(p *corev1.Pod) (status, message string) {
	switch {
	case p.Status.Phase == corev1.PodSucceeded:
		return statusCurrent, ""
	case p.Status.Phase == corev1.PodFailed:
		return statusFailed, join("the pod has failed", PodReason(p))
	case p.Status.Phase == corev1.PodRunning && podReady(p):
		return statusCurrent, ""
	}
	text := PodReason(p)
	if text == "" {
		text = "the pod is not ready"
	}
	return statusInProgress, text
}
