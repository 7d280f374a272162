package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/object"
)

// atLeastOne resolves a number or a share of n, rounded down, but never less than 1.
func atLeastOne(v *intstr.IntOrString, n int) int {
	x, err := intstr.GetScaledValueFromIntOrPercent(v, n, false)
	if err != nil {
		return 1
	}
	return max(1, x)
}

// newPod is the pod of the i-th wanted ordinal: of the current revision below the partition, else of the update's. It has no phase and
// no UID as long as it is not made.
func (r *statefulRun) newPod(i int) (*corev1.Pod, error) {
	ordinal := r.start() + i
	t, rev := &r.live.Spec.Template, r.history.update.Name
	kept := r.partition()
	if r.live.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && r.live.Spec.UpdateStrategy.RollingUpdate == nil {
		kept = int(r.live.Status.CurrentReplicas)
	}
	if i < kept && r.current.Name != r.history.update.Name {
		if r.currentTemplate == nil {
			var err error
			if r.currentTemplate, err = revisionTemplate(r.current); err != nil {
				return nil, err
			}
		}
		t, rev = r.currentTemplate, r.current.Name
	}
	name := fmt.Sprintf("%s-%d", r.live.Name, ordinal)
	tags := maps.Clone(t.Labels)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[appsv1.StatefulSetPodNameLabel], tags[appsv1.PodIndexLabel], tags[appsv1.StatefulSetRevisionLabel] = name, strconv.Itoa(ordinal), rev
	notes := make(map[string]string, len(t.Annotations)+2)
	maps.Copy(notes, t.Annotations)
	handCommit(notes, r.live.Annotations)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: r.live.Name + "-", Namespace: r.live.Namespace, Labels: tags, Annotations: notes, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.live, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}},
		Spec: t.Spec,
	}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	p.Spec.Hostname, p.Spec.Subdomain = name, r.live.Spec.ServiceName
	p.Spec.Volumes = r.volumes(t.Spec.Volumes, ordinal)
	return p, nil
}

// number gives a made-up pod what makes it this one and no other.
func (r *statefulRun) number(p *corev1.Pod) {
	n := r.slot()
	p.UID = HashUID("child", string(r.live.UID), strconv.Itoa(n))
	p.CreationTimestamp = metav1.NewTime(r.now.Truncate(time.Second))
	p.Annotations[object.AnnotationSlot] = strconv.Itoa(n)
}

func claimName(set *appsv1.StatefulSet, template, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", set.Spec.VolumeClaimTemplates[template].Name, set.Name, ordinal)
}

// volumes are a template's with those of the set's claims, which take the place of others of the same name.
func (r *statefulRun) volumes(had []corev1.Volume, ordinal int) []corev1.Volume {
	templates := r.live.Spec.VolumeClaimTemplates
	if len(templates) == 0 {
		return had
	}
	var out []corev1.Volume
	for i := range templates {
		out = append(out, corev1.Volume{Name: templates[i].Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(r.live, i, ordinal)}}})
	}
	for _, v := range had {
		if !slices.ContainsFunc(templates, func(t corev1.PersistentVolumeClaim) bool { return t.Name == v.Name }) {
			out = append(out, v)
		}
	}
	return out
}

// makeClaims makes what a pod's claims lack, and tells why the pod must wait: for a claim that is being deleted, or one that may not be made. The others
// are made all the same.
func (r *statefulRun) makeClaims(p *corev1.Pod) error {
	var errs []error
	for i := range r.live.Spec.VolumeClaimTemplates {
		name := claimName(r.live, i, ordinalOf(p))
		o, there := r.v.Get(object.Key{Resource: "persistentvolumeclaims", Namespace: r.live.Namespace, Name: name})
		if there {
			if o.GetDeletionTimestamp() != nil {
				errs = append(errs, fmt.Errorf("pvc %s is being deleted", name))
			}
			continue
		}
		if err := r.makeClaim(p, &r.live.Spec.VolumeClaimTemplates[i], name); err != nil {
			errs = append(errs, fmt.Errorf("failed to create PVC %s: %w", name, err))
		}
	}
	return utilerrors.NewAggregate(errs)
}

func (r *statefulRun) makeClaim(p *corev1.Pod, t *corev1.PersistentVolumeClaim, name string) error {
	c := object.Copy(t)
	tags := maps.Clone(c.Labels)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, r.live.Spec.Selector.MatchLabels)
	c.ObjectMeta = metav1.ObjectMeta{Name: name, Namespace: r.live.Namespace, Labels: tags, Annotations: maps.Clone(c.Annotations)}
	c.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
	c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	if r.claimDoor == nil {
		r.claimDoor = newClaimGate(r.v, r.admitClaim, r.live.Namespace, r.now)
	}
	if err := r.claimDoor.take(c); err != nil {
		r.refused(fmt.Sprintf("Create Claim %s for Pod %s in StatefulSet %s failed error: %v", name, p.Name, r.live.Name, err))
		return err
	}
	c.UID = HashUID("claim", string(r.live.UID), c.Name, strconv.Itoa(r.slot()))
	c.OwnerReferences, _ = r.claimOwners(c, p)
	r.res.Put = append(r.res.Put, c)
	r.event("SuccessfulCreate", fmt.Sprintf("Create Claim %s Pod %s in StatefulSet %s success", c.Name, p.Name, r.live.Name))
	return nil
}

func (r *statefulRun) retention() appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	if p := r.live.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		return *p
	}
	return appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType}
}

// staleClaim tells whether a claim of a pod that is not made yet belongs to the pod that had its name before: it is on its way out,
// and what is in it with it.
func (r *statefulRun) staleClaim(p *corev1.Pod) bool {
	if r.retention().WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
		return false
	}
	for i := range r.live.Spec.VolumeClaimTemplates {
		o, ok := r.v.Get(object.Key{Resource: "persistentvolumeclaims", Namespace: r.live.Namespace, Name: claimName(r.live, i, ordinalOf(p))})
		if ok && slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return namesAny(ref, "Pod", p.Name) }) {
			return true
		}
	}
	return false
}

// namesAny tells whether a reference names an object of a kind, whichever of that name.
func namesAny(ref metav1.OwnerReference, kind, name string) bool {
	return ref.Kind == kind && ref.Name == name
}

// own brings the owners of a pod's claims in line with the retention policy.
func (r *statefulRun) own(p *corev1.Pod) {
	for i := range r.live.Spec.VolumeClaimTemplates {
		key := object.Key{Resource: "persistentvolumeclaims", Namespace: r.live.Namespace, Name: claimName(r.live, i, ordinalOf(p))}
		o, ok := r.v.Get(key)
		if !ok || r.written[key] {
			continue
		}
		refs, foreign := r.claimOwners(o, p)
		if foreign {
			r.conflict(o)
		}
		if equality.Semantic.DeepEqual(refs, o.GetOwnerReferences()) {
			continue
		}
		c := object.Copy(o)
		c.SetOwnerReferences(refs)
		r.written[key] = true
		r.res.Put = append(r.res.Put, c)
	}
}

// claimOwners are the owners that a pod's claim should have: the set if the claims go with it, the pod if it is condemned and the
// claims go with that. A claim that another controller has (foreign), or that an object before ours of the same name had, is not ours to bind.
func (r *statefulRun) claimOwners(claim object.Object, p *corev1.Pod) (owners []metav1.OwnerReference, foreign bool) {
	had := claim.GetOwnerReferences()
	policy := r.retention()
	removes := policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType || policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	var others []metav1.OwnerReference
	for _, ref := range had {
		switch {
		case namesAny(ref, "StatefulSet", r.live.Name) && ref.UID != r.live.UID, namesAny(ref, "Pod", p.Name) && ref.UID != p.UID:
			return had, false
		case ref.UID == r.live.UID, p.UID != "" && ref.UID == p.UID:
		default:
			foreign = foreign || removes && ref.Controller != nil && *ref.Controller
			others = append(others, ref)
		}
	}
	if foreign {
		return others, true
	}
	condemned := !r.inRange(p)
	switch {
	case policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType && condemned:
		return append(others, *metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))), false
	case policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType && (!condemned || policy.WhenScaled != appsv1.DeletePersistentVolumeClaimRetentionPolicyType):
		return append(others, *metav1.NewControllerRef(r.live, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))), false
	}
	return others, false
}

// conflict tells once that another controller has a claim which the retention policy is about.
func (r *statefulRun) conflict(claim object.Object) {
	e := Event{Regarding: r.live, Type: corev1.EventTypeWarning, Reason: "ConflictingController", Component: "statefulset-controller",
		Message: fmt.Sprintf("PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", claim.GetName())}
	if !toldAlready(r.v, e) {
		r.res.Events = append(r.res.Events, e)
	}
}

// identify gives a pod the labels of its name back.
func (r *statefulRun) identify(p *corev1.Pod) {
	if p.Labels[appsv1.StatefulSetPodNameLabel] == p.Name {
		return
	}
	c := object.Copy(p)
	c.Labels = maps.Clone(c.Labels)
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.Labels[appsv1.StatefulSetPodNameLabel], c.Labels[appsv1.PodIndexLabel] = p.Name, strconv.Itoa(ordinalOf(p))
	r.res.Put = append(r.res.Put, c)
}
