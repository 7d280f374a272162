package controllers

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"reconcile/object"
)

// eachItem calls f with the items of a list.
func eachItem(list runtime.Object, f func(object.Object)) error {
	return apimeta.EachListItem(list, func(o runtime.Object) error {
		f(o.(object.Object))
		return nil
	})
}

// podLine is what can be told of a pod without its name: its owner's place for it, and how it stands.
func podLine(s side, p *corev1.Pod, anywhere bool) string {
	owner, place := "-", p.Labels["app"]
	if ref := metav1.GetControllerOf(p); ref != nil {
		owner = ref.Kind
		switch ref.Kind {
		case "ReplicaSet", "ReplicationController":
			place += " " + p.Spec.Containers[0].Image
			if n, ok := p.Annotations[corev1.PodDeletionCost]; ok {
				place += " #" + n
			}
		case "DaemonSet":
			place = daemonPlace(s, p, anywhere)
		case "StatefulSet":
			place = p.Name + ":" + p.Spec.Containers[0].Image
		case "Job":
			place = ref.Name
			if x, ok := p.Annotations[batchv1.JobCompletionIndexAnnotation]; ok {
				place += "[" + x + "] failed " + p.Annotations[batchv1.JobIndexFailureCountAnnotation] + "/" + p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation]
			}
		}
	}
	state := string(p.Status.Phase)
	if ready(p) {
		state += ",ready"
	}
	if p.DeletionTimestamp != nil {
		state += ",going"
	}
	if p.Spec.NodeName != "" {
		state += ",bound"
	}
	if len(p.Finalizers) > 0 {
		state += ",held"
	}
	return fmt.Sprintf("pod of %s %s: %s", owner, place, state)
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// pods are a side's pods by line, those of a line in the order of creation.
func pods(s side, anywhere bool) map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for _, o := range s.list("pods") {
		p := o.(*corev1.Pod)
		line := podLine(s, p, anywhere)
		out[line] = append(out[line], p)
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	}
	return out
}

// complete tells whether a rollout is at its end.
func complete(d *appsv1.Deployment) bool {
	n, st := *d.Spec.Replicas, d.Status
	return st.Replicas == n && st.UpdatedReplicas == n && st.AvailableReplicas == n
}

// deploymentCondition leaves out which of the reasons for going on a rollout that is not complete has: Kubernetes' depends on which of its
// own writes its informers have shown it. That goes for a pause's end too: its note that a ReplicaSet was made is refused, because it is
// built on what it read before it noted the end of the pause.
func deploymentCondition(d *appsv1.Deployment, c appsv1.DeploymentCondition) string {
	switch c.Reason {
	case "NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated", "NewReplicaSetAvailable", "DeploymentResumed":
		if !complete(d) {
			return string(c.Type) + " goes on"
		}
	}
	return fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason)
}

// undecided tells whether a Deployment of Kubernetes' has missed that a rollout began: if the ReplicaSet it goes back to has pods before the
// Deployment's status was written, nothing counts as progress, the last rollout's success stays as it is, and no deadline runs.
func undecided(s side) bool {
	return slices.ContainsFunc(s.list("deployments"), func(o object.Object) bool {
		d := o.(*appsv1.Deployment)
		return !complete(d) && slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Reason == "NewReplicaSetAvailable" })
	})
}

func number(n *int32) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func at(t *metav1.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("02 15:04:05")
}

// show writes what a side holds, in an order that does not depend on names.
func show(s side, times, anywhere, progress bool) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for line, list := range pods(s, anywhere) {
		add("%d × %s", len(list), line)
	}
	revisions := map[string]string{}
	for _, o := range s.list("controllerrevisions") {
		rev := o.(*appsv1.ControllerRevision)
		_, after, _ := strings.Cut(string(rev.Data.Raw), `"image":"`)
		image, _, _ := strings.Cut(after, `"`)
		revisions[rev.Name] = image
		add("revision %d of %s: %s", rev.Revision, rev.OwnerReferences[0].Name, image)
	}
	for _, o := range s.list("statefulsets") {
		st := o.(*appsv1.StatefulSet).Status
		add("statefulset %s: generation %d, %d replicas, %d ready, %d available, %d current, %d updated, %s → %s", o.GetName(), st.ObservedGeneration, st.Replicas, st.ReadyReplicas,
			st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas, revisions[st.CurrentRevision], revisions[st.UpdateRevision])
	}
	for _, o := range s.list("daemonsets") {
		st := o.(*appsv1.DaemonSet).Status
		add("daemonset %s: generation %d, %d desired, %d current, %d misscheduled, %d ready, %d updated, %d available, %d unavailable", o.GetName(), st.ObservedGeneration,
			st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.NumberMisscheduled, st.NumberReady, st.UpdatedNumberScheduled, st.NumberAvailable, st.NumberUnavailable)
	}
	for _, o := range s.list("persistentvolumeclaims") {
		var owners []string
		for _, ref := range o.GetOwnerReferences() {
			owners = append(owners, ref.Kind+" "+ref.Name)
		}
		add("claim %s of %v", o.GetName(), owners)
	}
	for _, o := range s.list("deployments") {
		st := o.(*appsv1.Deployment).Status
		add("deployment %s: revision %s, generation %d, %d replicas, %d updated, %d ready, %d available, %d unavailable", o.GetName(), o.GetAnnotations()["deployment.kubernetes.io/revision"],
			st.ObservedGeneration, st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas, st.UnavailableReplicas)
		for _, c := range st.Conditions {
			if progress || c.Type != appsv1.DeploymentProgressing {
				add("deployment %s: %s", o.GetName(), deploymentCondition(o.(*appsv1.Deployment), c))
			}
		}
	}
	for _, o := range s.list("replicasets") {
		rs := o.(*appsv1.ReplicaSet)
		notes := rs.Annotations
		add("replicaset %s: revision %s (%s), wants %s of %s/%s, %d replicas, %d ready, %d available, %s terminating", rs.Spec.Template.Spec.Containers[0].Image,
			notes["deployment.kubernetes.io/revision"], notes["deployment.kubernetes.io/revision-history"], number(rs.Spec.Replicas), notes["deployment.kubernetes.io/desired-replicas"],
			notes["deployment.kubernetes.io/max-replicas"], rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas, number(rs.Status.TerminatingReplicas))
	}
	for _, o := range s.list("replicationcontrollers") {
		rc := o.(*corev1.ReplicationController)
		add("replicationcontroller wants %s, generation %d, %d replicas, %d labelled, %d ready, %d available", number(rc.Spec.Replicas), rc.Status.ObservedGeneration,
			rc.Status.Replicas, rc.Status.FullyLabeledReplicas, rc.Status.ReadyReplicas, rc.Status.AvailableReplicas)
	}
	for _, o := range s.list("jobs") {
		add("%s", jobLine(o.(*batchv1.Job), times))
	}
	for _, o := range s.list("horizontalpodautoscalers") {
		lines = append(lines, autoscalerLines(o.(*autoscalingv2.HorizontalPodAutoscaler))...)
	}
	for _, o := range s.list("cronjobs") {
		st := o.(*batchv1.CronJob).Status
		var active []string
		for _, ref := range st.Active {
			active = append(active, ref.Name)
		}
		add("cronjob %s: last %s, %v", o.GetName(), at(st.LastScheduleTime), active)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func jobLine(j *batchv1.Job, times bool) string {
	st := j.Status
	var b strings.Builder
	fmt.Fprintf(&b, "job %s: %d active, %s ready, %s terminating, %d succeeded %s, %d failed", j.Name, st.Active, number(st.Ready), number(st.Terminating), st.Succeeded, st.CompletedIndexes, st.Failed)
	if st.FailedIndexes != nil {
		fmt.Fprintf(&b, " %q", *st.FailedIndexes)
	}
	var conditions []string
	for _, c := range st.Conditions {
		text := fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason)
		if times {
			text += " at " + at(&c.LastTransitionTime)
		}
		conditions = append(conditions, text)
	}
	fmt.Fprintf(&b, " %v", conditions)
	if times {
		fmt.Fprintf(&b, " from %s to %s", at(st.StartTime), at(st.CompletionTime))
	}
	return b.String()
}
