package controller

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

const (
	// endedPodsKept is how many ended pods a cluster keeps; the oldest beyond them go.
	endedPodsKept = 12500
	// endedPodsLook is how often they are counted. Kubernetes counts each 20 s; a count walks over all pods.
	endedPodsLook = 5 * time.Minute
)

// podGC removes pods that ended long ago, so that they do not fill the cluster. Pods of nodes that are gone, and of those that are out of
// service, are the node life cycle's.
type podGC struct{}

func (podGC) Name() string                        { return "pod-garbage-collector" }
func (podGC) Watches() []string                   { return nil }
func (podGC) Keys(View, Change, func(object.Key)) {}
func (podGC) Start() []object.Key                 { return []object.Key{{Resource: "pods"}} }
func (podGC) Reconcile(v View, _ object.Key, now time.Time) (Result, error) {
	res := Result{Wake: now.Add(endedPodsLook)}
	var ended []*corev1.Pod
	for o := range v.List("pods", "") {
		if p := o.(*corev1.Pod); podEnded(p) && p.DeletionTimestamp == nil {
			ended = append(ended, p)
		}
	}
	if len(ended) <= endedPodsKept {
		return res, nil
	}
	// Evicted pods go first, then the oldest.
	slices.SortFunc(ended, func(a, b *corev1.Pod) int {
		if x, y := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	zero := int64(0)
	for _, p := range ended[:len(ended)-endedPodsKept] {
		res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(p), DeleteOptions: DeleteOptions{GracePeriodSeconds: &zero}})
	}
	return res, nil
}
