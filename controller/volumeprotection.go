package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// The finalizers that keep storage in use from going.
const (
	finalizerClaim  = "kubernetes.io/pvc-protection"
	finalizerVolume = "kubernetes.io/pv-protection"
)

// volumeProtection holds a claim that is deleted until no pod on a node uses it, and a volume until it is not bound. Its keys are claims and
// volumes.
type volumeProtection struct{}

func (volumeProtection) Name() string { return "volume-protection" }
func (volumeProtection) Watches() []string {
	return []string{"persistentvolumeclaims", "persistentvolumes", "pods"}
}

func (volumeProtection) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource != "pods" {
		if ch.New != nil {
			emit(ch.Key)
		}
		return
	}
	p, ok := ch.Old.(*corev1.Pod)
	if !ok || ch.New != nil && podEnded(p) == podEnded(ch.New.(*corev1.Pod)) {
		return
	}
	for i := range p.Spec.Volumes {
		key := object.Key{Resource: "persistentvolumeclaims", Namespace: p.Namespace, Name: claimOfVolume(p, &p.Spec.Volumes[i])}
		if o, ok := v.Get(key); ok && o.GetDeletionTimestamp() != nil {
			emit(key)
		}
	}
}

// claimOfVolume is the name of the claim behind a pod's volume, empty if there is none.
func claimOfVolume(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

func (volumeProtection) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	finalizer, used := finalizerClaim, false
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		finalizer, used = finalizerVolume, o.Status.Phase == corev1.VolumeBound
	case *corev1.PersistentVolumeClaim:
		used = o.DeletionTimestamp != nil && claimUsed(v, o)
	}
	has := slices.Contains(o.GetFinalizers(), finalizer)
	c := object.Copy(o)
	switch {
	case o.GetDeletionTimestamp() == nil && !has:
		c.SetFinalizers(append(c.GetFinalizers(), finalizer))
	case o.GetDeletionTimestamp() != nil && has && !used:
		c.SetFinalizers(slices.DeleteFunc(c.GetFinalizers(), func(f string) bool { return f == finalizer }))
	default:
		return Result{}, nil
	}
	return Result{Put: []object.Object{c}}, nil
}

// claimUsed tells whether a pod that has a node uses a claim; an ephemeral volume's until its pod has ended.
func claimUsed(v View, claim *corev1.PersistentVolumeClaim) bool {
	for o := range v.Indexed(object.UsersOf(claim.Namespace, claim.Name)) {
		p := o.(*corev1.Pod)
		if p.Spec.NodeName == "" {
			continue
		}
		for i := range p.Spec.Volumes {
			vol := &p.Spec.Volumes[i]
			if claimOfVolume(p, vol) == claim.Name && (vol.Ephemeral == nil || !podEnded(p)) {
				return true
			}
		}
	}
	return false
}
