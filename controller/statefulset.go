package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// statefulSets keeps the pods of each StatefulSet, which have names of their own. Its input are StatefulSets, their pods, claims and
// revisions; its output pods, claims, ControllerRevisions and the status. The rules are those of Kubernetes' controller: one step a
// run, and the change that it makes wakes it for the next.
//
// The file has the flow; statefulpods.go what pods and claims look like, history.go the revisions. That there are never two pods of
// one ordinal follows from their names: the successor is made when the one before is gone from the store, and not in the entry that
// removes it (see remover).
type statefulSets struct {
	admit      PodAdmission
	admitClaim ClaimAdmission
}

func (statefulSets) Name() string { return "statefulset" }
func (statefulSets) Watches() []string {
	return []string{"statefulsets", "pods", "persistentvolumeclaims", "serviceaccounts"}
}

func (statefulSets) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "statefulsets":
		if ch.New != nil {
			emit(ch.Key)
		}
	case "pods":
		emitPodOwner(ch, "StatefulSet", "statefulsets", emit)
	case "serviceaccounts":
		emitForAccount(v, ch, "statefulsets", emit)
	case "persistentvolumeclaims":
		// A claim that is gone is what a pod may wait for.
		if ch.New != nil {
			return
		}
		for o := range v.List("statefulsets", ch.Key.Namespace) {
			if _, ordinal := cutOrdinal(ch.Key.Name); ordinal >= 0 && claimsOf(o.(*appsv1.StatefulSet), ordinal)[ch.Key.Name] {
				emit(object.KeyOf(o))
			}
		}
	}
}

// claimsOf are the names of the claims of an ordinal.
func claimsOf(set *appsv1.StatefulSet, ordinal int) map[string]bool {
	out := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		out[claimName(set, i, ordinal)] = true
	}
	return out
}

func (c statefulSets) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*appsv1.StatefulSet)
	selector, err := metav1.LabelSelectorAsSelector(live.Spec.Selector)
	if err != nil {
		return Result{}, fmt.Errorf("read the selector of %s: %w", key, err)
	}
	set := *live
	set.Annotations = maps.Clone(live.Annotations)
	r := statefulRun{v: v, admit: c.admit, admitClaim: c.admitClaim, now: now, live: live, set: &set, written: map[object.Key]bool{},
		history: history{v: v, owner: live, kind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"), template: &live.Spec.Template, label: labelRevisionHash}}
	if err := r.read(selector); err != nil {
		return Result{}, err
	}
	if live.DeletionTimestamp == nil {
		if err := r.step(); err != nil {
			return Result{}, err
		}
	}
	r.finish()
	return r.res, nil
}

// statefulRun is one run for one StatefulSet.
type statefulRun struct {
	admit      PodAdmission
	admitClaim ClaimAdmission
	v          View
	now        time.Time
	live       *appsv1.StatefulSet
	set        *appsv1.StatefulSet // what live becomes
	history    history
	current    *appsv1.ControllerRevision
	// currentTemplate is the current revision's, read when it is first needed.
	currentTemplate *corev1.PodTemplateSpec

	pods []*corev1.Pod // all that are the set's
	// replicas are the pods of the wanted ordinals, those that do not exist without a phase; condemned the others, highest first.
	replicas, condemned []*corev1.Pod
	// sick is the first pod that is not available.
	sick      *corev1.Pod
	deleted   int32 // pods deleted for the update
	written   map[object.Key]bool
	door      *podGate   // what new pods must pass, nil until the first comes
	claimDoor *claimGate // and what new claims
	res       Result
}

func (r *statefulRun) start() int {
	if r.live.Spec.Ordinals == nil {
		return 0
	}
	return int(r.live.Spec.Ordinals.Start)
}

func (r *statefulRun) wanted() int {
	if r.live.Spec.Replicas == nil {
		return 1
	}
	return int(*r.live.Spec.Replicas)
}

func (r *statefulRun) partition() int {
	ru := r.live.Spec.UpdateStrategy.RollingUpdate
	if ru == nil || ru.Partition == nil {
		return 0
	}
	return int(*ru.Partition)
}

// ordered tells whether pods come and go one by one.
func (r *statefulRun) ordered() bool {
	return r.live.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

func ordinalOf(p *corev1.Pod) int {
	_, n := cutOrdinal(p.Name)
	return n
}

func (r *statefulRun) inRange(p *corev1.Pod) bool {
	i := ordinalOf(p) - r.start()
	return i >= 0 && i < r.wanted()
}

// read finds revisions and pods, and lets go of pods that are no longer the set's.
func (r *statefulRun) read(selector labels.Selector) error {
	r.history.read(selector)
	st := &r.live.Status
	if st.CollisionCount != nil {
		r.history.collisions = *st.CollisionCount
	}
	known := ""
	if st.ObservedGeneration == r.live.Generation {
		known = st.UpdateRevision
	}
	if err := r.history.find(known); err != nil {
		return err
	}
	if r.current = r.history.named(st.CurrentRevision); r.current == nil {
		r.current = r.history.update
	}
	for o := range r.v.Owned(r.live.UID) {
		p, ok := o.(*corev1.Pod)
		if !ok || !metav1.IsControlledBy(p, r.live) {
			continue
		}
		base, _ := cutOrdinal(p.Name)
		if r.live.DeletionTimestamp == nil && p.DeletionTimestamp == nil && (base != r.live.Name || !selector.Matches(labelSet(p))) {
			c := object.Copy(p)
			c.OwnerReferences = slices.DeleteFunc(c.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == r.live.UID })
			r.res.Put = append(r.res.Put, c)
			continue
		}
		r.pods = append(r.pods, p)
	}
	return nil
}

// step does what is next: missing pods and broken ones first, then those that are too many, then the update.
func (r *statefulRun) step() error {
	if err := r.sort(); err != nil {
		return err
	}
	for _, p := range r.replicas {
		if stop := r.tend(p); stop && r.ordered() {
			return nil
		}
	}
	for _, p := range r.condemned {
		r.own(p)
	}
	for _, p := range r.condemned {
		if stop := r.condemn(p); stop && r.ordered() {
			return nil
		}
	}
	if r.live.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return nil
	}
	if ru := r.live.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
		r.updateSome(atLeastOne(ru.MaxUnavailable, r.wanted()))
	} else {
		r.updateOne()
	}
	return nil
}

// sort puts each pod in its place, makes up those that are missing, and finds the first that is not available.
func (r *statefulRun) sort() error {
	r.replicas = make([]*corev1.Pod, r.wanted())
	for _, p := range r.pods {
		switch {
		case r.inRange(p):
			r.replicas[ordinalOf(p)-r.start()] = p
		case ordinalOf(p) >= 0:
			r.condemned = append(r.condemned, p)
		}
	}
	slices.SortFunc(r.condemned, func(a, b *corev1.Pod) int { return cmp.Compare(ordinalOf(b), ordinalOf(a)) })
	for i, p := range r.replicas {
		if p != nil {
			continue
		}
		var err error
		if r.replicas[i], err = r.newPod(i); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(r.replicas, backwards(r.condemned)) {
		if r.sick == nil && !r.available(p) {
			r.sick = p
		}
	}
	return nil
}

func backwards(pods []*corev1.Pod) []*corev1.Pod {
	out := slices.Clone(pods)
	slices.Reverse(out)
	return out
}

// available tells whether a pod has been ready for long enough and is not on its way out.
func (r *statefulRun) available(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && r.longReady(p)
}

// longReady tells whether a pod has been ready for long enough, and wakes when it will have been.
func (r *statefulRun) longReady(p *corev1.Pod) bool {
	if !podReady(p) {
		return false
	}
	at := readySince(p).Add(time.Duration(r.live.Spec.MinReadySeconds) * time.Second)
	if r.live.Spec.MinReadySeconds == 0 || !at.After(r.now) {
		return true
	}
	if r.res.Wake.IsZero() || at.Before(r.res.Wake) {
		r.res.Wake = at
	}
	return false
}

// tend looks after one wanted pod, and tells whether the ones after it must wait.
func (r *statefulRun) tend(p *corev1.Pod) (stop bool) {
	switch {
	case podEnded(p):
		// Its successor is made when it is gone, however it ended.
		if p.DeletionTimestamp == nil {
			r.remove(p)
		}
		return true
	case p.Status.Phase == "":
		if r.staleClaim(p) {
			return true
		}
		err := r.makeClaims(p)
		if err == nil {
			err = r.gate().take(p)
		}
		if err != nil {
			r.refuse(p, err)
			return true
		}
		r.number(p)
		r.res.Put = append(r.res.Put, p)
		r.event("SuccessfulCreate", fmt.Sprintf("Create Pod %s in StatefulSet %s successful", p.Name, r.live.Name))
		return true
	case p.Status.Phase == corev1.PodPending:
		if r.makeClaims(p) != nil {
			return true
		}
	}
	if r.ordered() && (p.Status.Phase != corev1.PodRunning || !r.available(p)) {
		return true
	}
	r.own(p)
	r.identify(p)
	return false
}

// condemn deletes one pod that is too many, and tells whether the ones after it must wait. In order only a pod that is well goes,
// or the very one that holds everything up.
func (r *statefulRun) condemn(p *corev1.Pod) (stop bool) {
	if p.DeletionTimestamp != nil {
		return true
	}
	if r.ordered() && p != r.sick && (p.Status.Phase != corev1.PodRunning || !r.available(p)) {
		return true
	}
	r.remove(p)
	return true
}

func revisionOf(p *corev1.Pod) string { return p.Labels[appsv1.StatefulSetRevisionLabel] }

// updateOne deletes the highest pod of another revision, when those above it are available. One that never becomes so stops the
// update until somebody deletes it, as in Kubernetes.
func (r *statefulRun) updateOne() {
	for i := len(r.replicas) - 1; i >= r.partition(); i-- {
		p := r.replicas[i]
		if revisionOf(p) != r.history.update.Name && p.DeletionTimestamp == nil {
			if p.Status.Phase != "" {
				r.remove(p)
				r.deleted++
			}
			return
		}
		if !r.available(p) {
			return
		}
	}
}

// updateSome deletes pods of other revisions, highest first, as long as at most n are not available.
func (r *statefulRun) updateSome(n int) {
	for _, p := range r.replicas {
		if !r.available(p) {
			n--
		}
	}
	for i := len(r.replicas) - 1; i >= r.partition() && n > 0; i-- {
		if p := r.replicas[i]; revisionOf(p) != r.history.update.Name && p.DeletionTimestamp == nil && p.Status.Phase != "" {
			r.remove(p)
			r.deleted++
			n--
		}
	}
}

func (r *statefulRun) remove(p *corev1.Pod) {
	r.res.Delete = append(r.res.Delete, Deletion{Key: object.KeyOf(p)})
	r.event("SuccessfulDelete", fmt.Sprintf("Delete Pod %s in StatefulSet %s successful", p.Name, r.live.Name))
}

func (r *statefulRun) event(reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: corev1.EventTypeNormal, Reason: reason, Message: message, Component: "statefulset-controller"})
}

// gate is what new pods must pass.
func (r *statefulRun) gate() *podGate {
	if r.door == nil {
		r.door = newPodGate(r.v, r.admit, r.live.Namespace, r.now)
	}
	return r.door
}

// refuse tells that a pod may not be made, and tries again after a while.
func (r *statefulRun) refuse(p *corev1.Pod, why error) {
	r.refused(fmt.Sprintf("Create Pod %s in StatefulSet %s failed error: %v", p.Name, r.live.Name, why))
}

// refused does it for whatever may not be made.
func (r *statefulRun) refused(message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Component: "statefulset-controller", Message: message})
	if at := r.now.Add(retryRefused); r.res.Wake.IsZero() || at.Before(r.res.Wake) {
		r.res.Wake = at
	}
}

// finish writes the status, the revisions and what became too old of them.
func (r *statefulRun) finish() {
	r.status()
	live := map[string]bool{r.current.Name: true, r.history.update.Name: true, r.set.Status.CurrentRevision: true}
	for _, p := range r.pods {
		live[revisionOf(p)] = true
	}
	if r.live.DeletionTimestamp == nil {
		r.res.Put = append(r.history.put, r.res.Put...)
		r.res.Delete = append(r.res.Delete, r.history.surplus(r.live.Spec.RevisionHistoryLimit, live)...)
	}
	r.res.Put = append(r.res.Put, r.set)
}

func (r *statefulRun) status() {
	st := appsv1.StatefulSetStatus{ObservedGeneration: r.live.Generation, CurrentRevision: r.current.Name, UpdateRevision: r.history.update.Name,
		CollisionCount: &r.history.collisions, Conditions: r.live.Status.Conditions}
	for _, p := range r.pods {
		st.Replicas++
		if p.Status.Phase == corev1.PodRunning && podReady(p) {
			st.ReadyReplicas++
			if r.longReady(p) {
				st.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(p) == st.CurrentRevision {
			st.CurrentReplicas++
		}
		if revisionOf(p) == st.UpdateRevision {
			st.UpdatedReplicas++
		}
	}
	st.CurrentReplicas = max(0, st.CurrentReplicas-r.deleted)
	n := int32(r.wanted())
	if r.live.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && st.UpdatedReplicas == n && st.ReadyReplicas == n && st.Replicas == n {
		st.CurrentReplicas, st.CurrentRevision = n, st.UpdateRevision
	}
	r.set.Status = st
}

// slot takes the next number, which goes into a UID: a pod that takes another's name is another.
func (r *statefulRun) slot() int {
	n, err := strconv.Atoi(r.set.Annotations[annotationNextSlot])
	if err != nil {
		n = 0
	}
	if r.set.Annotations == nil {
		r.set.Annotations = map[string]string{}
	}
	r.set.Annotations[annotationNextSlot] = strconv.Itoa(n + 1)
	return n
}
