package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"reconcile/object"
)

// Annotations that Kubernetes' binder and provisioners share beside those of package volume.
const (
	annotationProvisioner     = "volume.kubernetes.io/storage-provisioner"
	annotationProvisionerBeta = "volume.beta.kubernetes.io/storage-provisioner"
	annotationDefaultClass    = "storageclass.kubernetes.io/is-default-class"
	noProvisioner             = "kubernetes.io/no-provisioner"
)

// volumes binds PersistentVolumeClaims to PersistentVolumes by the rules of Kubernetes' controller, a claim and its volume in one transaction,
// and tells what becomes of a volume whose claim is gone. Its keys are claims and volumes. A claim whose class waits for the first consumer is
// bound with its pod (volumebinding.go). Nothing here makes or empties storage: a provisioner does, if one runs.
type volumes struct{}

func (volumes) Name() string { return "persistentvolume" }
func (volumes) Watches() []string {
	return []string{"persistentvolumes", "persistentvolumeclaims", "storageclasses"}
}

func volumeKey(name string) object.Key {
	return object.Key{Resource: "persistentvolumes", Name: name}
}

func claimKeyOf(ref *corev1.ObjectReference) object.Key {
	return object.Key{Resource: "persistentvolumeclaims", Namespace: ref.Namespace, Name: ref.Name}
}

func (volumes) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.New != nil && ch.Key.Resource != "storageclasses" {
		emit(ch.Key)
	}
	switch ch.Key.Resource {
	case "persistentvolumes":
		for _, o := range []object.Object{ch.Old, ch.New} {
			if pv, ok := o.(*corev1.PersistentVolume); ok && pv.Spec.ClaimRef != nil {
				emit(claimKeyOf(pv.Spec.ClaimRef))
			}
		}
		if pv, ok := ch.New.(*corev1.PersistentVolume); ok && pv.Status.Phase == corev1.VolumeAvailable {
			emitUnbound(v, emit)
		}
	case "persistentvolumeclaims":
		for _, o := range []object.Object{ch.Old, ch.New} {
			if claim, ok := o.(*corev1.PersistentVolumeClaim); ok && claim.Spec.VolumeName != "" {
				emit(volumeKey(claim.Spec.VolumeName))
			}
		}
		if ch.New == nil {
			emitReserved(v, ch.Key, emit)
		}
	case "storageclasses":
		emitUnbound(v, emit)
	}
}

// emitUnbound emits the claims that wait for a volume.
func emitUnbound(v View, emit func(object.Key)) {
	for o := range v.Indexed(object.OpenClaims) {
		emit(object.KeyOf(o))
	}
}

// emitReserved emits the volumes that name a claim which is gone.
func emitReserved(v View, claim object.Key, emit func(object.Key)) {
	for o := range v.Indexed(object.VolumesFor(claim.Namespace, claim.Name)) {
		emit(object.KeyOf(o))
	}
}

// candidates are the volumes that a claim may be bound to, by name: those that are kept for it, and the free ones of its class.
func candidates(v View, claim *corev1.PersistentVolumeClaim) []*corev1.PersistentVolume {
	var out []*corev1.PersistentVolume
	for _, row := range []object.Row{object.VolumesFor(claim.Namespace, claim.Name), object.FreeVolumes(volume.GetPersistentVolumeClaimClass(claim))} {
		for o := range v.Indexed(row) {
			out = append(out, o.(*corev1.PersistentVolume))
		}
	}
	slices.SortFunc(out, func(a, b *corev1.PersistentVolume) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (volumes) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	b := &binder{v: v, now: now}
	var err error
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		b.volume(o)
	case *corev1.PersistentVolumeClaim:
		if metav1.HasAnnotation(o.ObjectMeta, volume.AnnBindCompleted) {
			b.boundClaim(o)
		} else {
			err = b.unboundClaim(o)
		}
	}
	return b.res, err
}

// binder is one run for a claim or a volume.
type binder struct {
	v   View
	now time.Time
	res Result
}

func (b *binder) event(about object.Object, kind, reason, message string) {
	b.res.Events = append(b.res.Events, Event{Regarding: about, Type: kind, Reason: reason, Message: message, Component: "persistentvolume-controller"})
}

// phase puts a volume in a phase.
func (b *binder) phase(pv *corev1.PersistentVolume, p corev1.PersistentVolumePhase, message string) *corev1.PersistentVolume {
	c := object.Copy(pv)
	if c.Status.Phase != p {
		at := metav1.NewTime(b.now.Truncate(time.Second))
		c.Status.LastPhaseTransitionTime = &at
	}
	c.Status.Phase, c.Status.Message, c.Status.Reason = p, message, ""
	return c
}

func (b *binder) put(o object.Object) { b.res.Put = append(b.res.Put, o) }

// claimOf is the claim that a volume names, nil if there is none of that UID.
func (b *binder) claimOf(pv *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	o, ok := b.v.Get(claimKeyOf(pv.Spec.ClaimRef))
	if !ok || o.GetUID() != pv.Spec.ClaimRef.UID {
		return nil
	}
	return o.(*corev1.PersistentVolumeClaim)
}

// volume brings a volume's phase in step with its claim.
func (b *binder) volume(pv *corev1.PersistentVolume) {
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == "" {
		// Free, or kept for a claim that has not come or not been bound yet.
		b.put(b.phase(pv, corev1.VolumeAvailable, ""))
		return
	}
	claim := b.claimOf(pv)
	switch {
	case claim == nil:
		b.release(pv)
	case claim.Spec.VolumeName == pv.Name:
		b.put(b.phase(pv, corev1.VolumeBound, ""))
	case claim.Spec.VolumeName == "":
		// The claim's own run completes it.
	case metav1.HasAnnotation(pv.ObjectMeta, volume.AnnDynamicallyProvisioned) && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		b.release(pv)
	default:
		// The claim has another volume: this one is free again, or kept for whom its maker meant.
		c := b.phase(pv, corev1.VolumeAvailable, "")
		if metav1.HasAnnotation(c.ObjectMeta, volume.AnnBoundByController) {
			c.Spec.ClaimRef = nil
			delete(c.Annotations, volume.AnnBoundByController)
		} else {
			ref := *c.Spec.ClaimRef
			ref.UID, ref.ResourceVersion = "", ""
			c.Spec.ClaimRef = &ref
		}
		b.put(c)
	}
}

// release is for a volume whose claim is gone: it keeps its data, and says that nobody may have it. What is to be deleted waits for the
// provisioner that made it; a volume that none made cannot be deleted here, and says so.
func (b *binder) release(pv *corev1.PersistentVolume) {
	if pv.Status.Phase == corev1.VolumeFailed {
		return
	}
	policy, reason, message := pv.Spec.PersistentVolumeReclaimPolicy, "", ""
	switch {
	case policy == corev1.PersistentVolumeReclaimDelete && pv.Spec.CSI == nil && !metav1.HasAnnotation(pv.ObjectMeta, volume.AnnDynamicallyProvisioned):
		reason, message = "VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", pv.Name)
	case policy == corev1.PersistentVolumeReclaimRecycle:
		reason, message = "VolumeFailedRecycle", "No recycler plugin found for the volume!"
	}
	if message == "" {
		b.put(b.phase(pv, corev1.VolumeReleased, ""))
		return
	}
	b.put(b.phase(pv, corev1.VolumeFailed, message))
	b.event(pv, corev1.EventTypeWarning, reason, message)
}

// boundClaim looks whether a claim that was bound still has its volume.
func (b *binder) boundClaim(claim *corev1.PersistentVolumeClaim) {
	lost := func(reason, message string) {
		if claim.Status.Phase == corev1.ClaimLost {
			return
		}
		c := object.Copy(claim)
		c.Status.Phase, c.Status.AccessModes, c.Status.Capacity = corev1.ClaimLost, nil, nil
		b.put(c)
		b.event(claim, corev1.EventTypeWarning, reason, message)
	}
	if claim.Spec.VolumeName == "" {
		lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
		return
	}
	o, ok := b.v.Get(volumeKey(claim.Spec.VolumeName))
	if !ok {
		lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		return
	}
	pv := o.(*corev1.PersistentVolume)
	if pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.UID != claim.UID {
		lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
		return
	}
	b.bind(pv, claim)
}

// bind makes a claim and a volume name each other, and both Bound.
func (b *binder) bind(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) {
	c := b.phase(pv, corev1.VolumeBound, "")
	if !volume.IsVolumeBoundToClaim(pv, claim) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.Name != claim.Name || ref.Namespace != claim.Namespace || ref.UID != claim.UID {
		c.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion}
	}
	b.put(c)
	d := object.Copy(claim)
	if d.Spec.VolumeName != pv.Name {
		d.Spec.VolumeName = pv.Name
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, volume.AnnBindCompleted, "yes")
	d.Status.Phase, d.Status.AccessModes = corev1.ClaimBound, pv.Spec.AccessModes
	had, size := d.Status.Capacity[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	if had.Cmp(size) != 0 {
		d.Status.Capacity = pv.Spec.Capacity.DeepCopy()
	}
	b.put(d)
}

// unboundClaim looks for a claim's volume.
func (b *binder) unboundClaim(live *corev1.PersistentVolumeClaim) error {
	claim := b.withClass(live)
	if claim.Status.Phase != corev1.ClaimPending {
		c := object.Copy(claim)
		c.Status.Phase = corev1.ClaimPending
		claim = c
	}
	if claim.Spec.VolumeName != "" {
		b.named(claim)
		return nil
	}
	delayed := b.delayed(claim)
	pv, err := b.match(claim, delayed)
	if err != nil {
		return err
	}
	switch {
	case pv != nil:
		b.bind(pv, claim)
	case delayed && !volume.IsDelayBindingProvisioning(claim):
		b.put(claim)
		b.event(claim, corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case volume.GetPersistentVolumeClaimClass(claim) == "":
		b.put(claim)
		b.event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	default:
		b.provision(claim)
	}
	return nil
}

// named is for a claim that names its volume.
func (b *binder) named(claim *corev1.PersistentVolumeClaim) {
	o, ok := b.v.Get(volumeKey(claim.Spec.VolumeName))
	if !ok {
		b.put(claim)
		return
	}
	pv := o.(*corev1.PersistentVolume)
	switch {
	case pv.Spec.ClaimRef == nil:
		if fault := mismatch(pv, claim); fault != "" {
			b.put(claim)
			b.event(claim, corev1.EventTypeWarning, "VolumeMismatch", fmt.Sprintf("Cannot bind to requested volume %q: %s", pv.Name, fault))
			return
		}
		b.bind(pv, claim)
	case volume.IsVolumeBoundToClaim(pv, claim):
		b.bind(pv, claim)
	default:
		b.put(claim)
		b.event(claim, corev1.EventTypeWarning, "FailedBinding", fmt.Sprintf("volume %q already bound to a different claim.", pv.Name))
	}
}

// mismatch tells why a volume does not do for the claim that names it.
func mismatch(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) string {
	want, size := claim.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	attributes := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	switch {
	case pv.DeletionTimestamp != nil:
		return fmt.Sprintf("the volume is marked for deletion %q", pv.Name)
	case size.Cmp(want) < 0:
		return "requested PV is too small"
	case volume.GetPersistentVolumeClaimClass(claim) != volume.GetPersistentVolumeClass(pv):
		return "storageClassName does not match"
	case attributes(claim.Spec.VolumeAttributesClassName) != attributes(pv.Spec.VolumeAttributesClassName):
		return "volumeAttributesClassName does not match"
	case volume.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec):
		return "incompatible volumeMode"
	case !volume.CheckAccessModes(claim, pv):
		return "incompatible accessMode"
	}
	return ""
}

// match is the volume for a claim: the smallest that does, of those with the fewest access modes. Where the scheduler decides about it, only
// a volume that is kept for it, as a provisioner makes it.
func (b *binder) match(claim *corev1.PersistentVolumeClaim, delayed bool) (*corev1.PersistentVolume, error) {
	groups := map[string][]*corev1.PersistentVolume{}
	for _, pv := range candidates(b.v, claim) {
		if volume.CheckAccessModes(claim, pv) {
			modes := accessModes(pv)
			groups[modes] = append(groups[modes], pv)
		}
	}
	var order []string
	for modes := range groups {
		order = append(order, modes)
	}
	slices.SortFunc(order, func(x, y string) int {
		return cmp.Or(cmp.Compare(strings.Count(x, ","), strings.Count(y, ",")), cmp.Compare(x, y))
	})
	for _, modes := range order {
		pv, err := volume.FindMatchingVolume(claim, groups[modes], nil, nil, delayed, true)
		if err != nil || pv != nil {
			return pv, err
		}
	}
	return nil, nil
}

func accessModes(pv *corev1.PersistentVolume) string {
	var out []string
	for _, m := range pv.Spec.AccessModes {
		if !slices.Contains(out, string(m)) {
			out = append(out, string(m))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (b *binder) class(name string) *storagev1.StorageClass {
	o, ok := b.v.Get(object.Key{Resource: "storageclasses", Name: name})
	if !ok {
		return nil
	}
	return o.(*storagev1.StorageClass)
}

// delayed tells whether a claim's volume is chosen, or asked of a provisioner, only with the node of its first pod.
func (b *binder) delayed(claim *corev1.PersistentVolumeClaim) bool {
	class := b.class(volume.GetPersistentVolumeClaimClass(claim))
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// withClass gives a claim that names no class the default one: the newest that says so.
func (b *binder) withClass(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	if volume.PersistentVolumeClaimHasClass(claim) {
		return claim
	}
	var best object.Object
	for o := range b.v.List("storageclasses", "") {
		if o.GetAnnotations()[annotationDefaultClass] != "true" {
			continue
		}
		if best == nil || best.GetCreationTimestamp().Time.Before(o.GetCreationTimestamp().Time) {
			best = o
		}
	}
	if best == nil {
		return claim
	}
	c := object.Copy(claim)
	name := best.GetName()
	c.Spec.StorageClassName = &name
	return c
}

// provision leaves a claim to its class's provisioner, or tells that there is none.
func (b *binder) provision(claim *corev1.PersistentVolumeClaim) {
	name := volume.GetPersistentVolumeClaimClass(claim)
	class := b.class(name)
	switch {
	case class == nil:
		b.put(claim)
		b.event(claim, corev1.EventTypeWarning, "ProvisioningFailed", fmt.Sprintf("storageclass.storage.k8s.io %q not found", name))
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		b.put(claim)
		b.event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: "+class.Provisioner)
	default:
		c := object.Copy(claim)
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, annotationProvisioner, class.Provisioner)
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, annotationProvisionerBeta, class.Provisioner)
		b.put(c)
		b.event(c, corev1.EventTypeNormal, "ExternalProvisioning", fmt.Sprintf("Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner))
	}
}
