package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
	"reconcile/scheduler"
)

// maxRefusalEvents is how many pods of one owner that fit nowhere get an event of their own in one run, which people look for; the rest share one.
const maxRefusalEvents = 500

// schedulingKey is the key of the scheduling step, which decides for all pods without a node at once. Other keys are steps too, in which some pods besides are
// tried, and told why they wait, though they were told before: a pod's own key, that of a claim, and those of retryKey.
var schedulingKey = object.Key{Resource: "pods"}

// scheduling binds pods to nodes by package scheduler. Its input are pods without a node, and nodes with what runs on them; its
// output are bindings (spec.nodeName), the condition PodScheduled, events and placements.
type scheduling struct{ extensions []*scheduler.Extension }

func (scheduling) Name() string { return "scheduler" }

// completes implements completer: what an entry makes is bound in it.
func (scheduling) completes(k object.Key) bool { return k == schedulingKey }

// Watches names what the scheduler's rules look at: pods and nodes, the volumes of pods that wait for them, the labels of namespaces that terms
// of pods select by, and the profiles.
func (scheduling) Watches() []string {
	return []string{"pods", "nodes", "configmaps", "namespaces", "persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes", "csidrivers",
		"csistoragecapacities", "volumeattachments"}
}

func (scheduling) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "nodes" {
		// A node that is gone makes room for nothing, but the reasons of waiting pods speak of it.
		if ch.New == nil || ch.Old == nil || schedulableChanged(ch.Old.(*corev1.Node), ch.New.(*corev1.Node)) {
			emitIfUnbound(v, emit)
		}
		return
	}
	if ch.Key.Resource != "pods" {
		if mayMakeRoom(ch) {
			emitIfUnbound(v, emitClaim(ch, emit))
		}
		return
	}
	if p, ok := ch.New.(*corev1.Pod); ok && p.Spec.NodeName == "" && p.DeletionTimestamp == nil && !podEnded(p) {
		waitingKeys(v, p, ch.Old, emit)
		return
	}
	if concernsOthers(ch) {
		// Each pod that a step binds is such a change: whether somebody waits is looked at once, by the next step.
		emit(schedulingKey)
	}
}

// waitingKeys emits what a change of a pod without a node asks for.
func waitingKeys(v View, p *corev1.Pod, old object.Object, emit func(object.Key)) {
	was, had := old.(*corev1.Pod)
	switch {
	case ofOthers(v, p):
		return
	case !had:
		emit(schedulingKey)
	case !equality.Semantic.DeepEqual(was.Spec, p.Spec) || !maps.Equal(was.Labels, p.Labels):
		emit(object.KeyOf(p))
	}
	if scheduler.Told(p) && (!had || !scheduler.Told(was)) {
		emit(retryKey(p))
	}
}

// emitClaim makes a change of a claim, or of its volume, look at the pods that use it.
func emitClaim(ch Change, emit func(object.Key)) func(object.Key) {
	claim := ch.Key
	if pv, ok := ch.New.(*corev1.PersistentVolume); ok && pv.Spec.ClaimRef != nil {
		claim = object.Key{Resource: "persistentvolumeclaims", Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name}
	}
	if claim.Resource != "persistentvolumeclaims" {
		return emit
	}
	return func(object.Key) { emit(claim) }
}

// mayMakeRoom tells whether a change of neither a pod nor a node may let a pod find a node.
func mayMakeRoom(ch Change) bool {
	switch ch.Key.Resource {
	case "configmaps":
		return ch.Key == scheduler.ProfilesKey
	case "namespaces":
		return ch.Old != nil && ch.New != nil && !maps.Equal(ch.Old.GetLabels(), ch.New.GetLabels())
	case "csidrivers", "csistoragecapacities":
		return ch.New != nil
	case "volumeattachments":
		return ch.New == nil
	}
	return true
}

// concernsOthers tells whether a change of a bound pod may let another pod find a node: it gives back what it had or some of it, it has other
// labels, it begins to go, or it has just come to its node, where others may want to be with it.
func concernsOthers(ch Change) bool {
	was, had := ch.Old.(*corev1.Pod)
	is, there := ch.New.(*corev1.Pod)
	switch {
	case !there:
		return had && (was.Spec.NodeName != "" && !podEnded(was) || was.Spec.NodeName == "" && was.Status.NominatedNodeName != "")
	case podEnded(is):
		return had && was.Spec.NodeName != "" && !podEnded(was)
	case !had || was.Spec.NodeName == "":
		return true
	}
	return (was.DeletionTimestamp == nil) != (is.DeletionTimestamp == nil) || !maps.Equal(was.Labels, is.Labels) || resized(was, is)
}

// resized tells whether a bound pod asks for something else, or has been given something else by its agent. That it was given something for the first
// time is no news.
func resized(was, is *corev1.Pod) bool {
	if !equality.Semantic.DeepEqual(was.Spec.Resources, is.Spec.Resources) {
		return true
	}
	asks := func(a, b corev1.Container) bool { return equality.Semantic.DeepEqual(a.Resources, b.Resources) }
	if !slices.EqualFunc(was.Spec.Containers, is.Spec.Containers, asks) || !slices.EqualFunc(was.Spec.InitContainers, is.Spec.InitContainers, asks) {
		return true
	}
	for i := range min(len(was.Status.ContainerStatuses), len(is.Status.ContainerStatuses)) {
		a, b := &was.Status.ContainerStatuses[i], &is.Status.ContainerStatuses[i]
		if a.Resources != nil && !equality.Semantic.DeepEqual(a.Resources, b.Resources) || a.AllocatedResources != nil && !equality.Semantic.DeepEqual(a.AllocatedResources, b.AllocatedResources) {
			return true
		}
	}
	return false
}

// ofOthers tells whether a pod waits for a scheduler that is none of the profiles: each look at those that wait takes longer the more there are.
func ofOthers(v View, p *corev1.Pod) bool {
	name := p.Spec.SchedulerName
	if name == "" || name == corev1.DefaultSchedulerName {
		return false
	}
	o, _ := v.Get(scheduler.ProfilesKey)
	profiles, ok := o.(*corev1.ConfigMap)
	if !ok {
		return true
	}
	_, ours := profiles.Data[name]
	return !ours
}

func emitIfUnbound(v View, emit func(object.Key)) {
	for range v.Unbound() {
		emit(schedulingKey)
		return
	}
}

// schedulableChanged tells whether a node may take other pods than before.
func schedulableChanged(a, b *corev1.Node) bool {
	return !equality.Semantic.DeepEqual(a.Spec, b.Spec) || !equality.Semantic.DeepEqual(a.Labels, b.Labels) ||
		!equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) || (len(a.Status.Conditions) == 0) != (len(b.Status.Conditions) == 0)
}

func (c scheduling) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	again, wake, ok := toTell(key, now)
	waits := false
	for range v.Unbound() {
		waits = true
		break
	}
	if !waits {
		return Result{}, nil
	}
	if !ok {
		return Result{Wake: wake}, nil
	}
	s := binding{v: v, now: metav1.NewTime(now.Truncate(time.Second)), again: again, claims: claimBinding{View: v, now: now, writes: map[object.Key]object.Object{}}, told: map[object.Key]int{}, failed: map[object.Key]int{}, owners: map[string]object.Key{}, passed: map[object.Key]bool{}}
	list, stale, fault := decisions(v, c.extensions, key, again)
	if stale {
		s.res.Others = append(s.res.Others, KeyWake{Key: staleKey, At: s.now.Truncate(retryNews).Add(retryNews)})
	}
	for _, d := range list {
		for _, q := range d.Unnominated {
			s.passed[object.KeyOf(q)] = true
		}
		if d.Node == "" {
			s.refuse(d)
		} else {
			s.bind(d)
		}
		if d.Node == "" && !wake.IsZero() && again(d.Pod) {
			s.res.Wake = wake
		}
	}
	s.summarize()
	if o, ok := v.Get(scheduler.ProfilesKey); ok && fault != nil && len(list) > 0 {
		s.event(o, corev1.DefaultSchedulerName, corev1.EventTypeWarning, "InvalidProfile", fault.Error())
	}
	return s.res, nil
}

// decisions tries pods that wait, on a snapshot that is kept if there is one. stale tells that some may wait for another reason than when they were tried. The
// error is of profiles that cannot be read.
func decisions(v View, extensions []*scheduler.Extension, key object.Key, again func(*corev1.Pod) bool) (_ []scheduler.Decision, stale bool, _ error) {
	k, ok := v.(snapshotKeeper)
	if !ok {
		profiles, fault := scheduler.ReadProfiles(v, extensions...)
		return scheduler.NewSnapshotFor(v, profiles).ScheduleWaiting(nil), false, fault
	}
	s, done, fault := k.Snapshot(extensions)
	if key == staleKey {
		s.TryStale(maxNews)
	}
	out := s.ScheduleWaiting(again)
	stale = s.Stale()
	done()
	return out, stale, fault
}

// binding turns decisions into writes.
type binding struct {
	v      View
	again  func(*corev1.Pod) bool // pods that are told why they wait though they were told before; nil for none
	claims claimBinding
	now    metav1.Time
	res    Result
	told   map[object.Key]int // pods bound, by top owner
	failed map[object.Key]int // pods refused, by top owner
	first  []object.Key       // top owners in order
	owners map[string]object.Key
	passed map[object.Key]bool // pods that are no longer nominated, since one of higher priority is, to the same node
}

// owner is the top of a pod's owners, zero for a bare pod.
func (s *binding) owner(p *corev1.Pod) object.Key {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return object.Key{}
	}
	if k, ok := s.owners[string(ref.UID)]; ok {
		return k
	}
	k := TopOwner(s.v, p)
	s.owners[string(ref.UID)] = k
	return k
}

// TopOwner is what a pod comes from: its controlling owner, and that one's (the Deployment of a ReplicaSet, the CronJob of a Job). It is
// zero for a bare pod, and for one whose owner is of a kind that we do not know.
func TopOwner(v View, p *corev1.Pod) object.Key {
	top := object.Key{}
	var o object.Object = p
	for range 2 {
		ref := metav1.GetControllerOfNoCopy(o)
		if ref == nil {
			break
		}
		k, ok := object.KindOf(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
		if !ok || !k.Namespaced {
			break
		}
		top = object.Key{Resource: k.Resource, Namespace: p.Namespace, Name: ref.Name}
		up, there := v.Get(top)
		if !there {
			break
		}
		o = up
	}
	return top
}

func (s *binding) bind(d scheduler.Decision) {
	storage, ok := s.claims.bind(d.Pod, d.Node)
	s.res.Put = append(s.res.Put, storage...)
	if !ok {
		// What the pod waits for makes it be looked at again: a volume of its claims, or one that another pod of this step has taken.
		return
	}
	p := *d.Pod
	p.Spec.NodeName = d.Node
	p.Status.NominatedNodeName = ""
	p.Status.Conditions = s.scheduled(d.Pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	s.res.Put = append(s.res.Put, &p)
	owner := s.owner(d.Pod)
	s.res.Placements = append(s.res.Placements, Placement{Pod: object.KeyOf(d.Pod), Node: d.Node, Owner: owner})
	if s.told[owner]+s.failed[owner] == 0 {
		s.first = append(s.first, owner)
	}
	s.told[owner]++
	if owner == (object.Key{}) || s.told[owner] <= maxSingleEvents {
		s.event(&p, schedulerOf(&p), corev1.EventTypeNormal, "Scheduled", fmt.Sprintf("Successfully assigned %s/%s to %s", p.Namespace, p.Name, d.Node))
	}
}

// summarize tells of an owner the number of its pods whose binding or refusal had no event of its own.
func (s *binding) summarize() {
	for _, k := range s.first {
		o, ok := s.v.Get(k)
		if !ok {
			continue
		}
		if more := s.told[k] - maxSingleEvents; more > 0 {
			s.event(o, corev1.DefaultSchedulerName, corev1.EventTypeNormal, "Scheduled", fmt.Sprintf("(combined from similar events): Successfully assigned %d more pods", more))
		}
		if more := s.failed[k] - maxRefusalEvents; more > 0 {
			s.event(o, corev1.DefaultSchedulerName, corev1.EventTypeWarning, "FailedScheduling", fmt.Sprintf("(combined from similar events): %d more pods fit on no node; their conditions say why", more))
		}
	}
}

// schedulerOf is the name of the scheduler that a pod asks for.
func schedulerOf(p *corev1.Pod) string {
	return cmp.Or(p.Spec.SchedulerName, corev1.DefaultSchedulerName)
}

// refuse writes why a pod waits, when that is news: so a pod that is tried without need, or is not, comes to the same, but for when its news is told.
func (s *binding) refuse(d scheduler.Decision) {
	s.preempt(d)
	for _, p := range d.Alike {
		s.news(p, d.Message)
	}
	nominated := d.Pod.Status.NominatedNodeName
	switch {
	case d.Nominated != "":
		nominated = d.Nominated
	case d.Unnominate || s.passed[object.KeyOf(d.Pod)]:
		nominated = ""
	}
	if scheduler.Told(d.Pod) && nominated == d.Pod.Status.NominatedNodeName && (s.again == nil || !s.again(d.Pod)) {
		s.news(d.Pod, d.Message)
		return
	}
	s.res.Unplaced = append(s.res.Unplaced, Unplaced{Pod: object.KeyOf(d.Pod), Owner: s.owner(d.Pod), Message: d.Message})
	told := podCondition(d.Pod, corev1.PodScheduled)
	if told != nil && told.Status == corev1.ConditionFalse && told.Message == d.Message && nominated == d.Pod.Status.NominatedNodeName {
		return
	}
	p := *d.Pod
	p.Status.NominatedNodeName = nominated
	p.Status.Conditions = s.scheduled(d.Pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: d.Message})
	s.res.Put = append(s.res.Put, &p)
	owner := s.owner(d.Pod)
	if s.told[owner]+s.failed[owner] == 0 {
		s.first = append(s.first, owner)
	}
	if s.failed[owner]++; owner == (object.Key{}) || s.failed[owner] <= maxRefusalEvents {
		s.event(&p, schedulerOf(&p), corev1.EventTypeWarning, "FailedScheduling", d.Message)
	}
}

// news has a pod that is refused for other reasons than it says told so in a step of its own soon.
func (s *binding) news(p *corev1.Pod, message string) {
	if len(s.res.Others) < maxNews && scheduler.SaysOther(p, message) {
		s.res.Others = append(s.res.Others, KeyWake{Key: object.KeyOf(p), At: s.now.Truncate(retryNews).Add(retryNews)})
	}
}

// preempt deletes the victims of a decision, in their grace period, each with the reason among its conditions.
func (s *binding) preempt(d scheduler.Decision) {
	for _, q := range d.Victims {
		if q.DeletionTimestamp != nil {
			continue
		}
		s.res.Put = append(s.res.Put, disrupted(q, s.now.Time, corev1.PodReasonPreemptionByScheduler,
			schedulerOf(d.Pod)+": preempting to accommodate a higher priority pod"))
		s.res.Delete = append(s.res.Delete, Deletion{Key: object.KeyOf(q)})
		text := fmt.Sprintf("Preempted by pod %s on node %s", d.Pod.UID, d.Nominated)
		if q.Spec.NodeName != d.Nominated {
			text += fmt.Sprintf(", for pod group %s has too few pods left", q.Labels[scheduler.LabelGang])
		}
		s.event(q, schedulerOf(d.Pod), corev1.EventTypeNormal, "Preempted", text)
	}
}

func (s *binding) event(about object.Object, by, kind, reason, message string) {
	s.res.Events = append(s.res.Events, Event{Regarding: about, Type: kind, Reason: reason, Message: message, Component: by})
}

// scheduled returns the pod's conditions with c among them.
func (s *binding) scheduled(p *corev1.Pod, c corev1.PodCondition) []corev1.PodCondition {
	c.LastTransitionTime = s.now
	if had := podCondition(p, c.Type); had != nil && had.Status == c.Status {
		c.LastTransitionTime = had.LastTransitionTime
	}
	out := make([]corev1.PodCondition, 0, len(p.Status.Conditions)+1)
	for _, x := range p.Status.Conditions {
		if x.Type != c.Type {
			out = append(out, x)
		}
	}
	return append(out, c)
}
