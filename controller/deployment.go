package controller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// deployments drives each Deployment's ReplicaSets. Its input are Deployments, their ReplicaSets and pods, its output
// ReplicaSets (created, scaled, pruned) and the Deployment's status and revision. The rules are those of Kubernetes'
// deployment controller; a run makes one step of a rollout, and the change it made wakes it for the next.
//
// The file has the flow; rollout.go the arithmetic, revision.go the ReplicaSet of a template, deploystatus.go the conditions.
type deployments struct{}

func (deployments) Name() string      { return "deployment" }
func (deployments) Watches() []string { return []string{"deployments", "replicasets", "pods"} }

func (deployments) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "deployments":
		if ch.New != nil {
			emit(ch.Key)
		}
	case "replicasets":
		for _, o := range []object.Object{ch.Old, ch.New} {
			if o != nil {
				emitController(o, "Deployment", "deployments", emit)
			}
		}
	case "pods":
		// Recreate waits until the last old pod is gone, which changes no number of a ReplicaSet.
		if ch.New != nil {
			return
		}
		if ref := metav1.GetControllerOfNoCopy(ch.Old); ref != nil && ref.Kind == "ReplicaSet" {
			if rs, ok := v.Get(object.Key{Resource: "replicasets", Namespace: ch.Key.Namespace, Name: ref.Name}); ok {
				emitController(rs, "Deployment", "deployments", emit)
			}
		}
	}
}

// emitController emits the key of o's controlling owner if it is of the kind.
func emitController(o object.Object, kind, resource string, emit func(object.Key)) {
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil && ref.Kind == kind {
		emit(object.Key{Resource: resource, Namespace: o.GetNamespace(), Name: ref.Name})
	}
}

func (deployments) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*appsv1.Deployment)
	r := newRollout(v, live, now)
	switch {
	case live.DeletionTimestamp != nil:
		r.adoptNew(false)
		r.statusOnly()
	case r.pausedOrScaling():
		r.adoptNew(false)
		r.scale()
		if r.d.Spec.Paused {
			r.prune()
		}
		r.statusOnly()
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
		r.rolloutStatus()
	default:
		r.rolling()
		r.rolloutStatus()
	}
	return r.result(), nil
}

// rollout is one run for one Deployment. Its objects are copies, made when they are first changed.
type rollout struct {
	v    View
	now  time.Time
	live *appsv1.Deployment
	d    *appsv1.Deployment

	// sets are the Deployment's ReplicaSets, oldest first; fresh the one of the present template, nil if there is none.
	sets  []*appsv1.ReplicaSet
	fresh *appsv1.ReplicaSet

	// behind tells that a ReplicaSet has not followed its last change: what it says of its pods is not what will be. The rollout goes on
	// when it has, which is in this very Settle.
	behind bool

	changed map[string]*appsv1.ReplicaSet
	order   []string
	res     Result
}

func newRollout(v View, live *appsv1.Deployment, now time.Time) *rollout {
	r := &rollout{v: v, now: now, live: live, d: object.Copy(live), changed: map[string]*appsv1.ReplicaSet{}}
	for o := range v.Owned(live.UID) {
		if rs, ok := o.(*appsv1.ReplicaSet); ok && metav1.IsControlledBy(rs, live) {
			r.sets = append(r.sets, rs)
			r.behind = r.behind || rs.Generation > rs.Status.ObservedGeneration
		}
	}
	sortByAge(r.sets)
	for _, rs := range r.sets {
		if sameTemplate(&live.Spec.Template, &rs.Spec.Template) {
			r.fresh = rs
			break
		}
	}
	r.notePause()
	return r
}

// old returns the ReplicaSets of other templates, oldest first.
func (r *rollout) old() []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range r.sets {
		if r.fresh == nil || rs.UID != r.fresh.UID {
			out = append(out, rs)
		}
	}
	return out
}

// edit returns a copy of rs that may be changed and will be written.
func (r *rollout) edit(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	if c, ok := r.changed[rs.Name]; ok {
		return c
	}
	c := object.Copy(rs)
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	r.changed[rs.Name] = c
	r.order = append(r.order, rs.Name)
	for i := range r.sets {
		if r.sets[i].UID == rs.UID {
			r.sets[i] = c
		}
	}
	if r.fresh != nil && r.fresh.UID == rs.UID {
		r.fresh = c
	}
	return c
}

func (r *rollout) event(reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.live, Type: corev1.EventTypeNormal, Reason: reason, Message: message, Component: "deployment-controller"})
}

func (r *rollout) result() Result {
	for _, name := range r.order {
		r.res.Put = append(r.res.Put, r.changed[name])
	}
	r.res.Put = append(r.res.Put, r.d)
	return r.res
}

// rolling makes one step of a rolling update: new pods first, then old ones away as availability allows.
func (r *rollout) rolling() {
	r.adoptNew(true)
	if r.fresh == nil || r.behind {
		return
	}
	if r.setScale(r.fresh, r.freshTarget(), false) {
		return
	}
	if r.shrinkOld() {
		return
	}
	if complete(r.d, &r.d.Status) {
		r.prune()
	}
}

// recreate first removes all old pods, and makes new ones when the last old one is gone.
func (r *rollout) recreate() {
	r.adoptNew(false)
	scaled := false
	for _, rs := range r.old() {
		if replicas(rs) > 0 {
			scaled = r.setScale(rs, 0, false) || scaled
		}
	}
	if scaled || r.oldPodsRun() {
		return
	}
	r.adoptNew(true)
	if r.fresh == nil {
		return
	}
	r.setScale(r.fresh, *r.d.Spec.Replicas, false)
	if complete(r.d, &r.d.Status) {
		r.prune()
	}
}

func (r *rollout) oldPodsRun() bool {
	for _, rs := range r.old() {
		if rs.Status.Replicas > 0 {
			return true
		}
		for o := range r.v.Owned(rs.UID) {
			if p, ok := o.(*corev1.Pod); ok && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
				return true
			}
		}
	}
	return false
}
