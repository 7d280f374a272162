package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"reconcile/object"
	"reconcile/scheduler"
)

// daemonSets keeps one pod of each DaemonSet on every node that it is meant for. Its input are DaemonSets, nodes, pods and revisions,
// its output pods (bound by the scheduler, to the one node that their affinity names), ControllerRevisions and the status. The rules
// are those of Kubernetes' controller.
//
// The file has which nodes and which pods; daemonupdate.go the rolling update and the status, daemonpods.go what a pod looks like and
// how often a failed one is replaced.
type daemonSets struct{ admit PodAdmission }

func (daemonSets) Name() string { return "daemonset" }
func (daemonSets) Watches() []string {
	return []string{"daemonsets", "nodes", "pods", "serviceaccounts"}
}

func (daemonSets) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "daemonsets":
		if ch.New != nil {
			emit(ch.Key)
		}
	case "pods":
		emitPodOwner(ch, "DaemonSet", "daemonsets", emit)
	case "serviceaccounts":
		emitForAccount(v, ch, "daemonsets", emit)
	case "nodes":
		if ch.Old != nil && ch.New != nil && sameNodeForDaemons(ch.Old.(*corev1.Node), ch.New.(*corev1.Node)) {
			return
		}
		for o := range v.List("daemonsets", "") {
			if ch.Old == nil || ch.New == nil || meant(o.(*appsv1.DaemonSet), ch.Old.(*corev1.Node)) != meant(o.(*appsv1.DaemonSet), ch.New.(*corev1.Node)) {
				emit(object.KeyOf(o))
			}
		}
	}
}

// meant is what a DaemonSet may do on a node.
func meant(ds *appsv1.DaemonSet, n *corev1.Node) daemonNode {
	spec := daemonSpec(&ds.Spec.Template)
	r := daemonRun{live: ds, spec: spec, affinity: nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *spec})}
	return r.visit(n)
}

func sameNodeForDaemons(a, b *corev1.Node) bool {
	return maps.Equal(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints)
}

func (c daemonSets) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		return Result{}, nil
	}
	live := o.(*appsv1.DaemonSet)
	selector, err := metav1.LabelSelectorAsSelector(live.Spec.Selector)
	if err != nil {
		return Result{}, fmt.Errorf("read the selector of %s: %w", key, err)
	}
	ds := *live
	ds.Annotations = maps.Clone(live.Annotations)
	r := daemonRun{v: v, admit: c.admit, now: now, live: live, ds: &ds, pods: map[string][]*corev1.Pod{}, doomed: map[string]bool{},
		history: history{v: v, owner: live, kind: appsv1.SchemeGroupVersion.WithKind("DaemonSet"), template: &live.Spec.Template, label: appsv1.DefaultDaemonSetUniqueLabelKey}}
	r.history.read(selector)
	if live.Status.CollisionCount != nil {
		r.history.collisions = *live.Status.CollisionCount
	}
	if err := r.history.find(""); err != nil {
		return Result{}, err
	}
	r.hash = r.history.update.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	r.spec = daemonSpec(&live.Spec.Template)
	r.affinity = nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *r.spec})
	r.failures = readFailures(live)
	for o := range v.Owned(live.UID) {
		p, isPod := o.(*corev1.Pod)
		switch {
		case !isPod || !metav1.IsControlledBy(p, live):
		case p.DeletionTimestamp == nil && !selector.Matches(labelSet(p)):
			c := object.Copy(p)
			c.OwnerReferences = slices.DeleteFunc(c.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == live.UID })
			r.res.Put = append(r.res.Put, c)
		case p.DeletionTimestamp != nil && podEnded(p):
			r.ending = append(r.ending, p)
		default:
			node := targetNode(p)
			r.pods[node] = append(r.pods[node], p)
		}
	}
	r.run()
	return r.res, nil
}

// daemonRun is one run for one DaemonSet.
type daemonRun struct {
	admit    PodAdmission
	v        View
	now      time.Time
	live     *appsv1.DaemonSet
	ds       *appsv1.DaemonSet // what live becomes
	history  history
	hash     string
	spec     *corev1.PodSpec // of all its pods, but for the node
	affinity nodeaffinity.RequiredNodeAffinity
	failures daemonFailures

	nodes  []daemonNode
	pods   map[string][]*corev1.Pod // by the node they are on or are meant for, oldest first
	ending []*corev1.Pod            // ended and terminating: only their revision counts
	doomed map[string]bool          // names of pods that this run deletes
	made   []string
	res    Result
}

// daemonNode is a node with what the DaemonSet may do there.
type daemonNode struct {
	name string
	// runs tells whether a pod should be made there, stays whether one that is there may remain.
	runs, stays bool
}

// targetNode is the node that a daemon's pod is on, or is to be on.
func targetNode(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	return scheduler.PinnedTo(&p.Spec)
}

// visit decides about one node: node name, selector and affinity say whether the DaemonSet is meant for it; a taint that is not
// tolerated keeps new pods off, and ends those that are there if its effect is NoExecute.
func (r *daemonRun) visit(n *corev1.Node) daemonNode {
	d := daemonNode{name: n.Name}
	if want := r.live.Spec.Template.Spec.NodeName; want != "" && want != n.Name {
		return d
	}
	if ok, err := r.affinity.Match(n); err != nil || !ok {
		return d
	}
	d.runs, d.stays = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || scheduler.Tolerates(r.spec.Tolerations, t) {
			continue
		}
		d.runs = false
		d.stays = d.stays && t.Effect != corev1.TaintEffectNoExecute
	}
	return d
}

func (r *daemonRun) run() {
	for o := range r.v.List("nodes", "") {
		r.nodes = append(r.nodes, r.visit(o.(*corev1.Node)))
	}
	for _, list := range r.pods {
		if len(list) > 1 {
			slices.SortStableFunc(list, olderFirst)
		}
	}
	var missing []string
	for _, n := range r.nodes {
		missing = append(missing, r.manage(n)...)
	}
	for _, name := range r.gone() {
		for _, p := range r.pods[name] {
			// It waits for a node that is gone, and no agent will ever end it.
			if p.Spec.NodeName == "" {
				r.remove(p)
			}
		}
	}
	r.create(missing)
	if len(r.made) == 0 && len(r.doomed) == 0 && r.live.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		r.update()
	}
	r.finish()
}

// gone are the names of nodes that have pods and are not there.
func (r *daemonRun) gone() []string {
	here := 0
	for _, n := range r.nodes {
		if _, has := r.pods[n.name]; has {
			here++
		}
	}
	if here == len(r.pods) {
		return nil
	}
	out := maps.Clone(r.pods)
	for _, n := range r.nodes {
		delete(out, n.name)
	}
	return slices.Sorted(maps.Keys(out))
}

// olderFirst orders a node's pods: bound before waiting, then by age.
func olderFirst(a, b *corev1.Pod) int {
	return cmp.Or(boolFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}

// manage deletes what should not be on a node, and returns the node if it lacks a pod.
func (r *daemonRun) manage(n daemonNode) (missing []string) {
	pods, there := r.pods[n.name]
	switch {
	case n.runs && !there:
		return []string{n.name}
	case !n.stays:
		for _, p := range pods {
			r.remove(p)
		}
		return nil
	}
	var running []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case p.Status.Phase == corev1.PodFailed:
			r.replaceFailed(p, n.name)
		case p.Status.Phase == corev1.PodSucceeded:
			r.event(corev1.EventTypeNormal, "SucceededDaemonPod", fmt.Sprintf("Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, n.name))
			r.remove(p)
		default:
			running = append(running, p)
		}
	}
	if !r.surges() {
		for _, p := range running[min(1, len(running)):] {
			r.remove(p)
		}
		return nil
	}
	if len(running) == 0 && n.runs {
		return []string{n.name}
	}
	r.prunePair(running)
	return nil
}

// prunePair keeps, on a node that surges, the oldest pod of each template as long as the old one is ready and the new one not yet.
func (r *daemonRun) prunePair(running []*corev1.Pod) {
	if len(running) <= 1 {
		return
	}
	var fresh, old *corev1.Pod
	for _, p := range running {
		switch isNew := p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == r.hash; {
		case isNew && fresh == nil:
			fresh = p
		case !isNew && old == nil:
			old = p
		default:
			r.remove(p)
		}
	}
	if fresh != nil && old != nil && (!podReady(old) || r.available(fresh)) {
		r.remove(old)
	}
}

func (r *daemonRun) remove(p *corev1.Pod) {
	if p.DeletionTimestamp != nil || r.doomed[p.Name] {
		return
	}
	r.doomed[p.Name] = true
	r.res.Delete = append(r.res.Delete, Deletion{Key: object.KeyOf(p)})
	r.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+p.Name)
}

func (r *daemonRun) event(kind, reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: kind, Reason: reason, Message: message, Component: "daemonset-controller"})
}

// available tells whether a pod has been ready for long enough, and wakes when it will have been.
func (r *daemonRun) available(p *corev1.Pod) bool {
	if !podReady(p) {
		return false
	}
	at := readySince(p).Add(time.Duration(r.live.Spec.MinReadySeconds) * time.Second)
	if r.live.Spec.MinReadySeconds == 0 || !at.After(r.now) {
		return true
	}
	r.wake(at)
	return false
}

func (r *daemonRun) wake(at time.Time) {
	if r.res.Wake.IsZero() || at.Before(r.res.Wake) {
		r.res.Wake = at
	}
}

// isNew tells whether a pod is of the present template.
func (r *daemonRun) isNew(p *corev1.Pod) bool {
	generation := r.live.Annotations[appsv1.DeprecatedTemplateGeneration]
	return p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == r.hash || generation != "" && p.Labels[labelTemplateGeneration] == generation
}

// create makes the pods of nodes.
func (r *daemonRun) create(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	slot, err := strconv.Atoi(r.ds.Annotations[annotationNextSlot])
	if err != nil {
		slot = 0
	}
	owner := metav1.NewControllerRef(r.live, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))
	gate := newPodGate(r.v, r.admit, r.live.Namespace, r.now)
	for _, node := range nodes {
		name := childName(r.live.Name, r.live.UID, slot)
		for r.taken(name) {
			slot++
			name = childName(r.live.Name, r.live.UID, slot)
		}
		p := r.newPod(name, node, slot, owner)
		if err := gate.take(p); err != nil {
			r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating: " + err.Error(), Component: "daemonset-controller"})
			r.wake(r.now.Add(retryRefused))
			break
		}
		r.res.Put = append(r.res.Put, p)
		r.made = append(r.made, name)
		slot++
	}
	if r.ds.Annotations == nil {
		r.ds.Annotations = map[string]string{}
	}
	r.ds.Annotations[annotationNextSlot] = strconv.Itoa(slot)
	tellPods(&r.res, r.live, "daemonset-controller", "SuccessfulCreate", "Created pod: ", r.made)
}

func (r *daemonRun) taken(name string) bool {
	_, taken := r.v.Get(object.Key{Resource: "pods", Namespace: r.live.Namespace, Name: name})
	return taken
}

// finish writes the status, the revisions and what became too old of them.
func (r *daemonRun) finish() {
	r.status()
	r.failures.prune(r.nodes, r.now)
	r.failures.note(r.ds)
	live := map[string]bool{r.hash: true}
	for _, list := range r.pods {
		for _, p := range list {
			live[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
		}
	}
	for _, p := range r.ending {
		live[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	r.res.Put = append(r.history.put, r.res.Put...)
	r.res.Put = append(r.res.Put, r.ds)
	r.res.Delete = append(r.res.Delete, r.history.oldest(r.live.Spec.RevisionHistoryLimit, live)...)
}
