package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// BeginDelete applies a deletion to live as Kubernetes' API server does: it returns gone if the object must be removed now, or
// the object as it must be stored while its deletion goes on (grace period of a bound pod, finalizers, a namespace's
// contents). next is nil and gone false if nothing changes. live is not changed. The sequencer calls it for requests, Settle
// for controllers.
func BeginDelete(live object.Object, opts DeleteOptions, now time.Time) (next object.Object, gone bool) {
	o, changed := markDeleted(live, opts, now)
	if Finished(o) {
		return nil, true
	}
	if !changed {
		return nil, false
	}
	return o, false
}

// Deleted is the last state of an object that went at once, as the answer to its deletion shows it: a pod, which might have had a grace period, says
// that its deletion has begun. The result is the caller's.
func Deleted(last object.Object, opts DeleteOptions, now time.Time) object.Object {
	if _, ok := last.(*corev1.Pod); !ok {
		return object.Copy(last)
	}
	o, _ := markDeleted(last, opts, now)
	return o
}

// markDeleted is a copy of an object whose deletion has begun as the options say, and whether that changes it.
func markDeleted(live object.Object, opts DeleteOptions, now time.Time) (object.Object, bool) {
	o := object.Copy(live)
	_, isNamespace := o.(*corev1.Namespace)
	if k, err := object.KindOfObject(o); err == nil && k.NoDependents || isNamespace && o.GetDeletionTimestamp() != nil {
		opts.PropagationPolicy = "" // a namespace is asked once
	}
	switch opts.PropagationPolicy {
	case string(metav1.DeletePropagationForeground):
		setFinalizer(o, metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents)
	case string(metav1.DeletePropagationOrphan):
		setFinalizer(o, metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents)
	case string(metav1.DeletePropagationBackground):
		o.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool {
			return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
		}))
	}
	grace := int64(0)
	if pod, ok := o.(*corev1.Pod); ok {
		grace = podGrace(pod, opts.GracePeriodSeconds)
	}
	changed := !slices.Equal(o.GetFinalizers(), live.GetFinalizers())
	switch had := o.GetDeletionGracePeriodSeconds(); {
	case o.GetDeletionTimestamp() == nil:
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		o.SetDeletionTimestamp(&at)
		if !isNamespace {
			o.SetDeletionGracePeriodSeconds(&grace)
		}
		if o.GetGeneration() > 0 {
			o.SetGeneration(o.GetGeneration() + 1)
		}
		changed = true
	case isNamespace: // it ends when it is empty, which has no period
	case had == nil || grace < *had:
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		o.SetDeletionTimestamp(&at)
		o.SetDeletionGracePeriodSeconds(&grace)
		changed = true
	}
	if ns, ok := o.(*corev1.Namespace); ok && ns.Status.Phase != corev1.NamespaceTerminating {
		ns.Status.Phase = corev1.NamespaceTerminating
		changed = true
	}
	return o, changed
}

// Finished tells whether an object's deletion has nothing left to wait for: then storing it means removing it.
func Finished(o object.Object) bool {
	if o.GetDeletionTimestamp() == nil || len(o.GetFinalizers()) > 0 {
		return false
	}
	if grace := o.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 {
		return false
	}
	if ns, ok := o.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	return true
}

// podGrace is the grace period of a pod's deletion, as in the API server's pod strategy.
func podGrace(pod *corev1.Pod, wanted *int64) int64 {
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	period := int64(0)
	if wanted != nil {
		period = *wanted
	} else if pod.Spec.TerminationGracePeriodSeconds != nil {
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		period = 1
	}
	return period
}

func setFinalizer(o object.Object, add, drop string) {
	f := slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(s string) bool { return s == drop })
	if !slices.Contains(f, add) {
		f = append(f, add)
	}
	o.SetFinalizers(f)
}
