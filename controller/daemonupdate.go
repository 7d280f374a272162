package controller

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// share resolves a number or a share of n, rounded up; 0 for none.
func share(v *intstr.IntOrString, n int) int {
	if v == nil {
		return 0
	}
	x, err := intstr.GetScaledValueFromIntOrPercent(v, n, true)
	if err != nil {
		return 0
	}
	return x
}

// surges tells whether a node may have an old and a new pod for a while.
func (r *daemonRun) surges() bool {
	ru := r.live.Spec.UpdateStrategy.RollingUpdate
	return r.live.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType && ru != nil && share(ru.MaxSurge, 1) > 0
}

// fences are how many nodes may be without an available pod, and how many may have two. Both are rounded up.
func (r *daemonRun) fences() (surge, unavailable, wanted int) {
	for _, n := range r.nodes {
		if n.runs {
			wanted++
		}
	}
	if ru := r.live.Spec.UpdateStrategy.RollingUpdate; ru != nil {
		surge, unavailable = share(ru.MaxSurge, wanted), share(ru.MaxUnavailable, wanted)
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable, wanted
}

// pair finds the one new and the one old pod of a node; false if there are more, which manage sees to first.
func (r *daemonRun) pair(node string) (fresh, old *corev1.Pod, ok bool) {
	for _, p := range r.pods[node] {
		if p.DeletionTimestamp != nil {
			continue
		}
		to := &old
		if r.isNew(p) {
			to = &fresh
		}
		if *to != nil {
			return nil, nil, false
		}
		*to = p
	}
	return fresh, old, true
}

// update makes one step of a rolling update.
func (r *daemonRun) update() {
	surge, unavailable, wanted := r.fences()
	if surge == 0 {
		r.updateInPlace(unavailable)
	} else {
		r.updateBeside(surge, wanted)
	}
}

// sites are the nodes that have pods or should have, in order.
func (r *daemonRun) sites() []string {
	all := r.gone()
	for _, n := range r.nodes {
		if _, has := r.pods[n.name]; has || n.runs {
			all = append(all, n.name)
		}
	}
	if !slices.IsSorted(all) {
		slices.Sort(all)
	}
	return all
}

// updateInPlace deletes old pods: all that are not available anyway, and others as long as at most so many nodes are without.
func (r *daemonRun) updateInPlace(unavailable int) {
	out := 0
	var sick, well []*corev1.Pod
	for _, node := range r.sites() {
		fresh, old, ok := r.pair(node)
		switch {
		case !ok, old == nil && fresh == nil, old != nil && fresh != nil:
			out++
		case fresh != nil:
			if !r.available(fresh) {
				out++
			}
		case !r.available(old):
			sick = append(sick, old)
			out++
		default:
			well = append(well, old)
		}
	}
	for _, p := range append(sick, well[:max(0, min(unavailable-out, len(well)))]...) {
		r.remove(p)
	}
}

// updateBeside makes new pods beside old ones, at first where the old one is not available, and deletes an old one when the new one is.
// A pod on a node that it is no longer meant for goes when enough others are available.
func (r *daemonRun) updateBeside(surge, wanted int) {
	runs := map[string]bool{}
	for _, n := range r.nodes {
		runs[n.name] = n.runs
	}
	two, available := 0, 0
	var sick, well []string
	var strays []*corev1.Pod
	for _, node := range r.sites() {
		fresh, old, ok := r.pair(node)
		if !ok {
			two++
			continue
		}
		if first := firstPod(old, fresh); first != nil && r.available(first) {
			available++
		}
		switch {
		case old == nil:
		case fresh != nil && r.available(fresh):
			r.remove(old)
		case fresh != nil:
			two++
		case !runs[node] && r.available(old):
			strays = append(strays, old)
		case !runs[node]:
			r.remove(old)
		case !r.available(old):
			sick = append(sick, node)
		default:
			well = append(well, node)
		}
	}
	for _, p := range strays[:max(0, min(available-wanted, len(strays)))] {
		r.remove(p)
	}
	r.create(append(sick, well[:max(0, min(surge-two, len(well)))]...))
}

// firstPod is the first of the two that there is.
func firstPod(a, b *corev1.Pod) *corev1.Pod {
	if a != nil {
		return a
	}
	return b
}

// status counts the nodes.
func (r *daemonRun) status() {
	st := appsv1.DaemonSetStatus{ObservedGeneration: r.live.Generation, Conditions: r.live.Status.Conditions}
	if r.history.collisions > 0 {
		st.CollisionCount = &r.history.collisions
	}
	for _, n := range r.nodes {
		pods := r.pods[n.name]
		if !n.runs {
			if len(pods) > 0 {
				st.NumberMisscheduled++
			}
			continue
		}
		st.DesiredNumberScheduled++
		if len(pods) == 0 {
			continue
		}
		st.CurrentNumberScheduled++
		if podReady(pods[0]) {
			st.NumberReady++
			if r.available(pods[0]) {
				st.NumberAvailable++
			}
		}
		if r.isNew(pods[0]) {
			st.UpdatedNumberScheduled++
		}
	}
	st.NumberUnavailable = st.DesiredNumberScheduled - st.NumberAvailable
	r.ds.Status = st
}
