package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// annotationNextSlot is where a ReplicaSet keeps the number of the next slot, in the same transaction as the pods in them, so
// that a pod's name and UID never come again.
const annotationNextSlot = "reconcile.local/next-slot"

// maxSingleEvents is how many pods of one run get an event of their own; the rest share one.
const maxSingleEvents = 10

// replicaSets keeps the wanted number of pods of each ReplicaSet. Its input are ReplicaSets and their pods, its output pods
// (created in new slots, deleted by Kubernetes' ranking, released when their labels no longer match) and the status.
type replicaSets struct{ admit PodAdmission }

func (replicaSets) Name() string      { return "replicaset" }
func (replicaSets) Watches() []string { return []string{"replicasets", "pods", "serviceaccounts"} }

func (replicaSets) final(resource string) bool { return resource == "replicasets" }

func (replicaSets) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "replicasets":
		if ch.New != nil {
			emit(ch.Key)
		}
	case "serviceaccounts":
		emitForAccount(v, ch, "replicasets", emit)
	default:
		emitPodOwner(ch, "ReplicaSet", "replicasets", emit)
	}
}

// emitPodOwner emits the owner, of the kind, of a pod that changed in what an owner looks at.
func emitPodOwner(ch Change, kind, resource string, emit func(object.Key)) {
	if ch.Old != nil && ch.New != nil && samePodForOwner(ch.Old.(*corev1.Pod), ch.New.(*corev1.Pod)) {
		return
	}
	for _, o := range []object.Object{ch.Old, ch.New} {
		if o != nil {
			emitController(o, kind, resource, emit)
		}
	}
}

// samePodForOwner tells whether two states of a pod look alike to its ReplicaSet; being bound to a node, for one, does.
func samePodForOwner(a, b *corev1.Pod) bool {
	return a.Status.Phase == b.Status.Phase && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		podReady(a) == podReady(b) && maps.Equal(a.Labels, b.Labels) && sameOwners(a, b)
}

func (c replicaSets) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*appsv1.ReplicaSet)
	selector, err := metav1.LabelSelectorAsSelector(live.Spec.Selector)
	if err != nil {
		return Result{}, fmt.Errorf("read the selector of %s: %w", key, err)
	}
	s := replicaSync{v: v, admit: c.admit, now: now, live: live, about: live, kind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), component: "replicaset-controller"}
	s.run(selector)
	s.res.Put = append(s.res.Put, s.rs)
	return s.res, nil
}

// replicaSync is one run for one ReplicaSet, or for a ReplicationController in the form of one.
type replicaSync struct {
	admit PodAdmission
	v     View
	now   time.Time
	live  *appsv1.ReplicaSet
	// about, kind and component are what the pods' owner and the events' teller are.
	about     object.Object
	kind      schema.GroupVersionKind
	component string

	rs          *appsv1.ReplicaSet // what live becomes
	active      []*corev1.Pod      // neither ended nor terminating; not read where it is enough to count them
	counts      podCounts          // of the active ones
	terminating int32
	created     []*corev1.Pod
	refused     error // why not all that are wanted were made
	res         Result
}

func (s *replicaSync) run(selector labels.Selector) {
	// A shallow copy: what changes below is replaced, never written through.
	rs := *s.live
	s.rs = &rs
	if !s.count(selector) {
		s.read(selector)
	}
	if s.live.DeletionTimestamp == nil {
		switch diff := int(s.counts.active - replicas(s.live)); {
		case diff < 0:
			s.create(-diff)
		case diff > 0:
			s.remove(diff)
		}
	}
	s.status()
}

// podCounts are those of the active pods.
type podCounts struct{ active, labelled, ready, available int32 }

// count counts the pods without a look at each, so that one pod's change costs its owner the same however many it has. False says that this is not
// enough: some are to be deleted or released, or become available only after a while.
func (s *replicaSync) count(selector labels.Selector) bool {
	if s.live.Spec.MinReadySeconds > 0 {
		return false
	}
	var c podCounts
	terminating := int32(0)
	want := labels.Set(s.live.Spec.Template.Labels).AsSelectorPreValidated()
	if !object.SeesAlike(selector) || !object.SeesAlike(want) {
		return false
	}
	for a := range s.v.Alike(s.live.Namespace, s.live.UID) {
		p, n := a.Example, int32(a.Pods)
		switch {
		case podEnded(p):
			continue
		case p.DeletionTimestamp != nil:
			terminating += n
			continue
		case !selector.Matches(labels.Set(p.Labels)):
			return false
		}
		c.active += n
		if want.Matches(labels.Set(p.Labels)) {
			c.labelled += n
		}
		if podReady(p) {
			c.ready += n
		}
	}
	if c.active > replicas(s.live) {
		return false
	}
	c.available = c.ready
	s.counts, s.terminating = c, terminating
	return true
}

// read sorts the owned pods, and releases those that the selector no longer matches; one that has ended stays where it is.
func (s *replicaSync) read(selector labels.Selector) {
	for o := range s.v.Owned(s.live.UID) {
		p, ok := o.(*corev1.Pod)
		if !ok || !metav1.IsControlledBy(p, s.live) {
			continue
		}
		switch {
		case p.DeletionTimestamp != nil:
			if !podEnded(p) {
				s.terminating++
			}
		case podEnded(p):
		case !selector.Matches(labels.Set(p.Labels)):
			c := object.Copy(p)
			c.OwnerReferences = slices.DeleteFunc(c.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == s.live.UID })
			s.res.Put = append(s.res.Put, c)
		default:
			s.active = append(s.active, p)
		}
	}
	s.countActive()
}

// countActive counts the active pods, and wakes when the next one has been ready for long enough.
func (s *replicaSync) countActive() {
	s.counts = podCounts{active: int32(len(s.active))}
	want := labels.Set(s.live.Spec.Template.Labels).AsSelectorPreValidated()
	for _, p := range s.active {
		if want.Matches(labels.Set(p.Labels)) {
			s.counts.labelled++
		}
		if !podReady(p) {
			continue
		}
		s.counts.ready++
		at := readySince(p).Add(time.Duration(s.live.Spec.MinReadySeconds) * time.Second)
		if s.live.Spec.MinReadySeconds == 0 || !at.After(s.now) {
			s.counts.available++
		} else if s.res.Wake.IsZero() || at.Before(s.res.Wake) {
			s.res.Wake = at
		}
	}
}

func (s *replicaSync) create(n int) {
	slot, err := strconv.Atoi(s.live.Annotations[annotationNextSlot])
	if err != nil {
		slot = 0
	}
	owner := metav1.NewControllerRef(s.live, s.kind)
	created := metav1.NewTime(s.now.Truncate(time.Second))
	gate := newPodGate(s.v, s.admit, s.live.Namespace, s.now)
	for ; n > 0; slot++ {
		name := childName(s.live.Name, s.live.UID, slot)
		if _, taken := s.v.Get(object.Key{Resource: "pods", Namespace: s.live.Namespace, Name: name}); taken {
			continue
		}
		p := s.newPod(name, slot, owner, created)
		if s.refused = gate.take(p); s.refused != nil {
			break
		}
		s.created = append(s.created, p)
		n--
	}
	for _, p := range s.created {
		s.res.Put = append(s.res.Put, p)
	}
	notes := maps.Clone(s.live.Annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	notes[annotationNextSlot] = strconv.Itoa(slot)
	s.rs.Annotations = notes
	s.tell("SuccessfulCreate", "Created pod: ", names(s.created))
}

// childName is the name of the owner's child in a slot. The owner's part is cut as Kubernetes cuts it.
func childName(owner string, uid types.UID, slot int) string {
	return truncate(owner, 57) + "-" + slotSuffix(uid, slot)
}

// newPod makes the pod of a slot. It shares the template's parts, which nobody changes.
func (s *replicaSync) newPod(name string, slot int, owner *metav1.OwnerReference, created metav1.Time) *corev1.Pod {
	t := &s.live.Spec.Template
	notes := make(map[string]string, len(t.Annotations)+2)
	maps.Copy(notes, t.Annotations)
	handCommit(notes, s.live.Annotations)
	notes[object.AnnotationSlot] = strconv.Itoa(slot)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, GenerateName: s.live.Name + "-", Namespace: s.live.Namespace,
			UID: HashUID("child", string(s.live.UID), strconv.Itoa(slot)), CreationTimestamp: created,
			Labels: t.Labels, Annotations: notes, Finalizers: t.Finalizers, OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: t.Spec,
	}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

func (s *replicaSync) remove(n int) {
	related := map[string]int{}
	for _, p := range s.siblings() {
		related[p.Spec.NodeName]++
	}
	var gone []string
	ranked := rankForDeletion(s.active, related, s.now)
	n = min(n, len(ranked))
	s.active = ranked[n:]
	for _, p := range ranked[:n] {
		s.res.Delete = append(s.res.Delete, Deletion{Key: object.KeyOf(p)})
		gone = append(gone, p.Name)
		if p.Spec.NodeName != "" {
			s.terminating++
		}
	}
	s.res.Wake = time.Time{} // of those that stay
	s.countActive()
	s.tell("SuccessfulDelete", "Deleted pod: ", gone)
}

// siblings are the active pods of all ReplicaSets of the same Deployment: a node with many of them loses one first.
func (s *replicaSync) siblings() []*corev1.Pod {
	ref := metav1.GetControllerOfNoCopy(s.live)
	if ref == nil {
		return s.active
	}
	var out []*corev1.Pod
	for o := range s.v.Owned(ref.UID) {
		for child := range s.v.Owned(o.GetUID()) {
			if p, ok := child.(*corev1.Pod); ok && p.DeletionTimestamp == nil && !podEnded(p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (s *replicaSync) tell(reason, prefix string, pods []string) {
	tellPods(&s.res, s.about, s.component, reason, prefix, pods)
}

// tellPods makes an event a pod, and one for all that are beyond the bound.
func tellPods(res *Result, about object.Object, component, reason, prefix string, pods []string) {
	for i, name := range pods {
		text := prefix + name
		if i == maxSingleEvents {
			text = fmt.Sprintf("(combined from similar events): %s%s and %d more", prefix, name, len(pods)-i-1)
		}
		res.Events = append(res.Events, Event{Regarding: about, Type: corev1.EventTypeNormal, Reason: reason, Message: text, Component: component})
		if i == maxSingleEvents {
			return
		}
	}
}

func names(pods []*corev1.Pod) []string {
	out := make([]string, len(pods))
	for i, p := range pods {
		out[i] = p.Name
	}
	return out
}

// status is that of the pods as they are after this run.
func (s *replicaSync) status() {
	st := s.live.Status.DeepCopy()
	st.ObservedGeneration = s.live.Generation
	made := int32(len(s.created))
	st.Replicas = s.counts.active + made
	st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas = s.counts.labelled+made, s.counts.ready, s.counts.available
	st.TerminatingReplicas = &s.terminating
	s.failure(st)
	s.rs.Status = *st
}

// failure tells in a condition that pods were refused, and tries again after a while; what it says first stays until all can be made.
func (s *replicaSync) failure(st *appsv1.ReplicaSetStatus) {
	i := slices.IndexFunc(st.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	if s.refused == nil {
		if i >= 0 {
			st.Conditions = slices.Delete(st.Conditions, i, i+1)
		}
		return
	}
	if at := s.now.Add(retryRefused); s.res.Wake.IsZero() || at.Before(s.res.Wake) {
		s.res.Wake = at
	}
	if i >= 0 {
		return
	}
	st.Conditions = append(st.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: s.refused.Error(), LastTransitionTime: metav1.NewTime(s.now.Truncate(time.Second))})
	s.res.Events = append(s.res.Events, Event{Regarding: s.about, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating: " + s.refused.Error(), Component: s.component})
}
