package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"reconcile/object"
)

// ephemeralVolumes makes the claims of pods' generic ephemeral volumes, as Kubernetes' controller ephemeral_volume: one a volume, named after the
// pod and the volume, owned by the pod and gone with it. Its keys are pods, its input pods, claims, quotas and LimitRanges, its output claims.
type ephemeralVolumes struct{ admit ClaimAdmission }

func (ephemeralVolumes) Name() string { return "ephemeral-volume" }
func (ephemeralVolumes) Watches() []string {
	return []string{"pods", "persistentvolumeclaims"}
}

func (ephemeralVolumes) Keys(v View, ch Change, emit func(object.Key)) {
	if claim, ok := ch.Old.(*corev1.PersistentVolumeClaim); ok && ch.New == nil {
		// It may have been the pod's own or in the way of it. A pod that has a node holds its claims.
		for p := range v.Unbound() {
			if p.Namespace == claim.Namespace && slices.ContainsFunc(p.Spec.Volumes, func(vol corev1.Volume) bool {
				return vol.Ephemeral != nil && ephemeral.VolumeClaimName(p, &vol) == claim.Name
			}) {
				emit(object.KeyOf(p))
			}
		}
		return
	}
	p, ok := ch.New.(*corev1.Pod)
	if !ok || ch.Old != nil {
		return // the volumes of a pod do not change
	}
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Ephemeral != nil {
			emit(ch.Key)
			return
		}
	}
}

func (e ephemeralVolumes) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		return Result{}, nil
	}
	var res Result
	var gate *claimGate
	p := o.(*corev1.Pod)
	if podEnded(p) {
		return res, nil
	}
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		if vol.Ephemeral == nil || vol.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		name := ephemeral.VolumeClaimName(p, vol)
		there, ok := v.Get(object.Key{Resource: "persistentvolumeclaims", Namespace: p.Namespace, Name: name})
		if !ok {
			c := ephemeralClaim(p, name, vol.Ephemeral.VolumeClaimTemplate, now)
			if gate == nil {
				gate = newClaimGate(v, e.admit, p.Namespace, now)
			}
			if err := gate.take(c); err != nil {
				res.Events = append(res.Events, failedBinding(p, vol, fmt.Errorf("create PVC %s: %w", name, err)))
				res.Wake = now.Add(retryRefused)
				break
			}
			res.Put = append(res.Put, c)
			continue
		}
		if err := ephemeral.VolumeIsForPod(p, there.(*corev1.PersistentVolumeClaim)); err != nil {
			res.Events = append(res.Events, failedBinding(p, vol, err))
			break // the volumes behind it wait too
		}
	}
	return res, nil
}

func failedBinding(p *corev1.Pod, vol *corev1.Volume, why error) Event {
	return Event{Regarding: p, Type: corev1.EventTypeWarning, Reason: "FailedBinding", Component: "ephemeral_volume", Message: fmt.Sprintf("ephemeral volume %s: %v", vol.Name, why)}
}

func ephemeralClaim(p *corev1.Pod, name string, t *corev1.PersistentVolumeClaimTemplate, now time.Time) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{Spec: *t.Spec.DeepCopy(), Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
	c.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
	// One that is made anew for the same pod is another one.
	c.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
		UID:             HashUID("ephemeral claim", string(p.UID), name, strconv.FormatInt(now.UnixNano(), 10)),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))}}
	return c
}
