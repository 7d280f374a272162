package controller

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/object"
)

// Annotations of Kubernetes' deployment controller on ReplicaSets.
const (
	annotationRevision = "deployment.kubernetes.io/revision"
	annotationHistory  = "deployment.kubernetes.io/revision-history"
	annotationDesired  = "deployment.kubernetes.io/desired-replicas"
	annotationMax      = "deployment.kubernetes.io/max-replicas"
)

func replicas(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

func sumSpec(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += replicas(rs)
	}
	return n
}

func sumAvailable(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return replicas(rs) == 0 })
}

// fenceposts resolves a Deployment's maxSurge, rounded up, and maxUnavailable, rounded down; if both are 0, one pod may be
// unavailable, lest the rollout stand still.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	ru := d.Spec.Strategy.RollingUpdate
	n := int(*d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || ru == nil {
		return 0, 0
	}
	scaled := func(v *intstr.IntOrString, up bool) int32 {
		x, err := intstr.GetScaledValueFromIntOrPercent(v, n, up)
		if v == nil || err != nil {
			return 0
		}
		return int32(x)
	}
	surge, unavailable = scaled(ru.MaxSurge, true), scaled(ru.MaxUnavailable, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func maxSurge(d *appsv1.Deployment) int32 { s, _ := fenceposts(d); return s }

// maxUnavailable is at most the number of replicas.
func maxUnavailable(d *appsv1.Deployment) int32 {
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || *d.Spec.Replicas == 0 {
		return 0
	}
	_, u := fenceposts(d)
	return min(u, *d.Spec.Replicas)
}

// freshTarget is the size of the new ReplicaSet: as many more as the surge leaves room for, at most the wanted number.
func (r *rollout) freshTarget() int32 {
	want := *r.d.Spec.Replicas
	have := int32(0)
	if r.fresh != nil {
		have = replicas(r.fresh)
	}
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || have > want {
		return want
	}
	room := want + maxSurge(r.d) - sumSpec(r.sets)
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// setScale gives a ReplicaSet a size, and notes beside it the size of the Deployment that it was made for. Unless force is set
// nothing is noted where the size stays. It tells whether the size changed.
func (r *rollout) setScale(rs *appsv1.ReplicaSet, size int32, force bool) bool {
	was := replicas(rs)
	if was == size && (!force || !r.noteScale(rs, false)) {
		return false
	}
	r.noteScale(rs, true)
	if was == size {
		return false
	}
	c := r.edit(rs)
	c.Spec.Replicas = &size
	direction := "up"
	if was > size {
		direction = "down"
	}
	r.event("ScalingReplicaSet", fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, rs.Name, was, size))
	return true
}

// noteScale tells whether the annotations of size are out of date, and writes them if asked.
func (r *rollout) noteScale(rs *appsv1.ReplicaSet, write bool) bool {
	desired, most := strconv.Itoa(int(*r.d.Spec.Replicas)), strconv.Itoa(int(*r.d.Spec.Replicas+maxSurge(r.d)))
	if rs.Annotations[annotationDesired] == desired && rs.Annotations[annotationMax] == most {
		return false
	}
	if write {
		c := r.edit(rs)
		c.Annotations[annotationDesired], c.Annotations[annotationMax] = desired, most
	}
	return true
}

// shrinkOld takes old pods away: first those that are not available anyway, then as many as keep the minimum available.
func (r *rollout) shrinkOld() bool {
	old := active(r.old())
	if len(old) == 0 {
		return false
	}
	minAvailable := *r.d.Spec.Replicas - maxUnavailable(r.d)
	freshMissing := replicas(r.fresh) - r.fresh.Status.AvailableReplicas
	budget := sumSpec(r.sets) - minAvailable - freshMissing
	if budget <= 0 {
		return false
	}
	scaled := false
	for _, rs := range old {
		sick := replicas(rs) - rs.Status.AvailableReplicas
		if sick = min(sick, budget); sick > 0 {
			budget -= sick
			scaled = r.setScale(rs, replicas(rs)-sick, false) || scaled
		}
	}
	spare := sumAvailable(r.sets) - minAvailable
	for _, rs := range active(r.old()) {
		if spare <= 0 {
			break
		}
		n := min(replicas(rs), spare)
		spare -= n
		scaled = r.setScale(rs, replicas(rs)-n, false) || scaled
	}
	return scaled
}

// pausedOrScaling tells whether sizes may change without a rollout step: the Deployment is paused, or its number of replicas is
// not the one that its active ReplicaSets were sized for.
func (r *rollout) pausedOrScaling() bool {
	if r.d.Spec.Paused {
		return true
	}
	for _, rs := range active(r.sets) {
		if n, err := strconv.Atoi(rs.Annotations[annotationDesired]); err == nil && int32(n) != *r.d.Spec.Replicas {
			return true
		}
	}
	return false
}

// scale brings the ReplicaSets to the Deployment's number: the only active one wholly, several in proportion.
func (r *rollout) scale() {
	want := *r.d.Spec.Replicas
	live := active(r.sets)
	if len(live) <= 1 {
		only := r.fresh
		if len(live) == 1 {
			only = live[0]
		} else if only == nil && len(r.sets) > 0 {
			only = r.sets[len(r.sets)-1]
		}
		if only != nil {
			// A set without pods that is to have none is left as it is, its annotations too.
			r.setScale(only, want, replicas(only) > 0)
		}
		return
	}
	if r.saturated() {
		for _, rs := range active(r.old()) {
			r.setScale(rs, 0, false)
		}
		return
	}
	if r.d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		r.scaleInProportion(live)
	}
}

func (r *rollout) saturated() bool {
	if r.fresh == nil {
		return false
	}
	want := *r.d.Spec.Replicas
	return replicas(r.fresh) == want && r.fresh.Annotations[annotationDesired] == strconv.Itoa(int(want)) && r.fresh.Status.AvailableReplicas == want
}

// scaleInProportion shares the change of size among the active ReplicaSets by their sizes, largest first; what rounding leaves
// over goes to the largest.
func (r *rollout) scaleInProportion(live []*appsv1.ReplicaSet) {
	allowed := int32(0)
	if *r.d.Spec.Replicas > 0 {
		allowed = *r.d.Spec.Replicas + maxSurge(r.d)
	}
	change := allowed - sumSpec(live)
	slices.SortStableFunc(live, func(a, b *appsv1.ReplicaSet) int {
		if c := replicas(b) - replicas(a); c != 0 {
			return int(c)
		}
		if change > 0 {
			return -age(a, b)
		}
		return age(a, b)
	})
	sizes := make([]int32, len(live))
	left := change
	for i, rs := range live {
		share := r.share(rs)
		if change > 0 {
			share = min(share, left)
		} else {
			share = max(share, left)
		}
		if left == 0 {
			share = 0
		}
		sizes[i] = replicas(rs) + share
		left -= share
	}
	for i, rs := range live {
		if i == 0 {
			sizes[i] = max(0, sizes[i]+left)
		}
		r.setScale(rs, sizes[i], true)
	}
}

// share is by how much a ReplicaSet grows when the Deployment's size with surge grows from what the set was sized for.
func (r *rollout) share(rs *appsv1.ReplicaSet) int32 {
	if *r.d.Spec.Replicas == 0 {
		return -replicas(rs)
	}
	before, err := strconv.Atoi(rs.Annotations[annotationMax])
	if err != nil || before <= 0 {
		if before = int(r.d.Status.Replicas); before == 0 {
			return 0
		}
	}
	size := float64(replicas(rs)) * float64(*r.d.Spec.Replicas+maxSurge(r.d)) / float64(before)
	return int32(math.Round(size)) - replicas(rs)
}

// prune deletes the oldest revisions that are beyond the history limit and have no pods.
func (r *rollout) prune() {
	if r.d.Spec.RevisionHistoryLimit == nil || *r.d.Spec.RevisionHistoryLimit == math.MaxInt32 {
		return
	}
	old := slices.DeleteFunc(r.old(), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	surplus := len(old) - int(*r.d.Spec.RevisionHistoryLimit)
	if surplus <= 0 {
		return
	}
	slices.SortStableFunc(old, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	for _, rs := range old[:surplus] {
		// As it was before this run: a set that a pause amid Recreate has just chosen goes too, and the next run chooses again.
		if was, ok := r.v.Get(object.KeyOf(rs)); ok {
			rs = was.(*appsv1.ReplicaSet)
		}
		if rs.Status.Replicas == 0 && replicas(rs) == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			r.res.Delete = append(r.res.Delete, Deletion{Key: object.KeyOf(rs)})
		}
	}
}
