package controller

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// Kubernetes' defaults of --node-eviction-rate (0.1 nodes/s), --secondary-node-eviction-rate (0.01), --unhealthy-zone-threshold and
// --large-cluster-size-threshold.
const (
	evictionPace       = 10 * time.Second
	secondaryPace      = 100 * time.Second
	unhealthyShare     = 0.55
	largeZone          = 50
	excludedFromHealth = "node.kubernetes.io/exclude-disruption"
)

// nodesKey is the one key of nodeEviction.
var nodesKey = object.Key{Resource: "nodes"}

// nodeEviction tells nodes that are not ready to be emptied, which is what their NoExecute taint means, one after the other in each zone: the
// first at once, the next 10 s later. Where 55 % of a zone, and more than two nodes, are not ready, it goes ten times slower, or if
// the zone has at most 50 nodes not at all; and where all zones are lost as a whole no node is to be emptied, since more likely it is we who
// are cut off. node-lifecycle takes the taints back when a node is ready again. The pace is in the taints' times, so that a new leader goes on
// with it. Its one key stands for all nodes: what it costs follows from their number while one is not ready, and is nothing while all are.
type nodeEviction struct{}

func (nodeEviction) Name() string      { return "node-eviction" }
func (nodeEviction) Watches() []string { return []string{"nodes"} }

func (nodeEviction) Keys(_ View, ch Change, emit func(object.Key)) {
	was, _ := ch.Old.(*corev1.Node)
	is, _ := ch.New.(*corev1.Node)
	if was == nil || is == nil || zoneOf(was) != zoneOf(is) || nodeReady(was) != nodeReady(is) || len(evicting(was)) != len(evicting(is)) {
		emit(nodesKey)
	}
}

// zoneOf names a node's zone of failure: its region and zone.
func zoneOf(n *corev1.Node) zoneName {
	return zoneName{n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]}
}

type zoneName struct{ region, zone string }

func (z zoneName) compare(o zoneName) int {
	return cmp.Or(cmp.Compare(z.region, o.region), cmp.Compare(z.zone, o.zone))
}

// zoneHealth is what is known of the nodes of a zone.
type zoneHealth struct {
	size       int
	ready, bad int
	// last is when a node of the zone was told to be emptied.
	last time.Time
	// waiting are the nodes that are not ready and have not been told.
	waiting []*corev1.Node
}

func (nodeEviction) Reconcile(v View, _ object.Key, now time.Time) (Result, error) {
	if !anyOf(v, object.LostNodes) {
		return Result{}, nil
	}
	zones := map[zoneName]*zoneHealth{}
	var told []*corev1.Node
	for o := range v.List("nodes", "") {
		n := o.(*corev1.Node)
		z := zones[zoneOf(n)]
		if z == nil {
			z = &zoneHealth{}
			zones[zoneOf(n)] = z
		}
		if z.note(n) {
			told = append(told, n)
		}
	}
	var res Result
	if allLost(zones) {
		for _, n := range told {
			res.Put = append(res.Put, untold(n))
		}
		return res, nil
	}
	for _, name := range slices.SortedFunc(maps.Keys(zones), zoneName.compare) {
		zones[name].next(now, &res)
	}
	return res, nil
}

// anyOf tells whether there is an object in a row.
func anyOf(v View, row object.Row) bool {
	for range v.Indexed(row) {
		return true
	}
	return false
}

// note counts a node, and tells whether it was told to be emptied.
func (z *zoneHealth) note(n *corev1.Node) (told bool) {
	z.size++
	ready := nodeReady(n)
	_, excluded := n.Labels[excludedFromHealth]
	switch {
	case ready == "" || excluded:
	case ready == corev1.ConditionTrue:
		z.ready++
	default:
		z.bad++
	}
	if t := emptied(n); t != nil {
		if t.TimeAdded != nil && t.TimeAdded.After(z.last) {
			z.last = t.TimeAdded.Time
		}
		return true
	}
	if ready != corev1.ConditionTrue && ready != "" && n.DeletionTimestamp == nil {
		z.waiting = append(z.waiting, n)
	}
	return false
}

// emptied is the taint of a node that is not ready and was told to be emptied, nil if it was not.
func emptied(n *corev1.Node) *corev1.Taint {
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady) {
			return t
		}
	}
	return nil
}

// allLost tells whether every zone is lost as a whole.
func allLost(zones map[zoneName]*zoneHealth) bool {
	lost := 0
	for _, z := range zones {
		if z.ready > 0 {
			return false
		}
		lost += z.bad
	}
	return lost > 0
}

// pace is how long to wait between two nodes of the zone; 0 says that none is to be told.
func (z *zoneHealth) pace() time.Duration {
	switch {
	case z.ready == 0 || z.bad <= 2 || float64(z.bad)/float64(z.bad+z.ready) < unhealthyShare:
		return evictionPace
	case z.size > largeZone:
		return secondaryPace
	}
	return 0
}

// next tells the node that has not been ready for longest, or when that will be due.
func (z *zoneHealth) next(now time.Time, res *Result) {
	pace := z.pace()
	if len(z.waiting) == 0 || pace == 0 {
		return
	}
	wake := func(at time.Time) {
		if res.Wake.IsZero() || at.Before(res.Wake) {
			res.Wake = at
		}
	}
	due := z.last.Add(pace)
	if !z.last.IsZero() && due.After(now) {
		wake(due)
		return
	}
	first := slices.MinFunc(z.waiting, func(a, b *corev1.Node) int {
		x, y := nodeCondition(a, corev1.NodeReady), nodeCondition(b, corev1.NodeReady)
		return cmp.Or(x.LastTransitionTime.Compare(y.LastTransitionTime.Time), cmp.Compare(a.Name, b.Name))
	})
	n := object.Copy(first)
	key := corev1.TaintNodeNotReady
	if nodeReady(n) == corev1.ConditionUnknown {
		key = corev1.TaintNodeUnreachable
	}
	stamp := metav1.NewTime(now.Truncate(time.Second))
	setTaint(n, key, corev1.TaintEffectNoExecute, true, stamp)
	res.Put = append(res.Put, n)
	if len(z.waiting) > 1 {
		wake(stamp.Add(pace))
	}
}

// untold is a copy of a node that is not to be emptied after all.
func untold(n *corev1.Node) *corev1.Node {
	c := object.Copy(n)
	for _, key := range []string{corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady} {
		setTaint(c, key, corev1.TaintEffectNoExecute, false, metav1.Time{})
	}
	return c
}
