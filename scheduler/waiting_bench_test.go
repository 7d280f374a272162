package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// changing is a large Source of which a few objects are others than they were.
type changing struct {
	*large
	pods  map[object.Key]*corev1.Pod
	nodes map[string]*corev1.Node
}

func (c *changing) Get(k object.Key) (object.Object, bool) {
	switch k.Resource {
	case "pods":
		p, ok := c.pods[k]
		return p, ok && p != nil
	case "nodes":
		if n, ok := c.nodes[k.Name]; ok {
			return n, true
		}
	case "namespaces", "configmaps":
		return nil, false
	}
	return c.large.Get(k)
}

// BenchmarkTriedAgain has 5,000 pods, each with a demand of its own, wait for room on full nodes while something happens: what a step of the scheduler costs then.
// "all tried" is the step that looks at all of them.
func BenchmarkTriedAgain(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		for _, tc := range []struct {
			name   string
			change func(*changing, int) object.Key
			placed int
		}{
			{"a label of a pod changes", func(c *changing, i int) object.Key {
				p := c.on["n7"][0].DeepCopy()
				p.Labels = map[string]string{"round": fmt.Sprint(i)}
				c.pods[object.KeyOf(p)], c.on["n7"][0] = p, p
				return object.KeyOf(p)
			}, 0},
			{"a pod ends and leaves too little", func(c *changing, i int) object.Key { return c.end(i, 3) }, 0},
			{"a pod ends and leaves room for one", func(c *changing, i int) object.Key { return c.end(i, 0) }, 1},
			{"a full node joins", func(c *changing, i int) object.Key {
				n := node(fmt.Sprintf("m%d", i), "1", "64Gi", 110)
				c.nodes[n.Name] = n
				return object.KeyOf(n)
			}, 0},
			{"a node joins with room for three", func(c *changing, i int) object.Key {
				n := node(fmt.Sprintf("m%d", i), "16", "64Gi", 110)
				c.nodes[n.Name] = n
				return object.KeyOf(n)
			}, 3},
			{"all tried", nil, 0},
		} {
			b.Run(fmt.Sprintf("%d nodes/%s", nodes, tc.name), func(b *testing.B) { benchWaiting(b, nodes, tc.change, tc.placed) })
		}
	}
}

// end ends one of a node's pods.
func (c *changing) end(i, which int) object.Key {
	on := fmt.Sprintf("n%d", 10+i)
	key := object.KeyOf(c.on[on][which])
	c.on[on], c.pods[key] = slices.Delete(slices.Clone(c.on[on]), which, which+1), nil
	return key
}

func benchWaiting(b *testing.B, nodes int, change func(*changing, int) object.Key, placed int) {
	l := newLarge(nodes, 3, "5200m")
	for i := range nodes {
		p := pod("least", i, "400m", "")
		p.Spec.NodeName = fmt.Sprintf("n%d", i)
		l.on[p.Spec.NodeName] = append(l.on[p.Spec.NodeName], p)
	}
	c := &changing{large: l, pods: map[object.Key]*corev1.Pod{}, nodes: map[string]*corev1.Node{}}
	for i := range 5000 {
		p := pod(fmt.Sprintf("wait%d-", i), i, fmt.Sprintf("%dm", 5100+i%100), fmt.Sprintf("%dMi", 100+i))
		p.OwnerReferences = nil
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
		l.on[""] = append(l.on[""], p)
		c.pods[object.KeyOf(p)] = p
	}
	var k Kept
	profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
	k.Bring(c, profiles, nil).ScheduleWaiting(nil)
	k.Done()
	k.Bring(c, profiles, nil) // looks at each pod that was tried
	k.Done()
	round := 0
	each(b, 1, "µs", func() func() {
		round++
		if change == nil {
			return func() { k.Bring(c, profiles, nil).ScheduleWaiting(func(*corev1.Pod) bool { return true }); k.Done() }
		}
		keys := []object.Key{change(c, round)}
		keys = append(keys, slices.Collect(maps.Keys(c.pods))[:1]...)
		return func() {
			s := k.Bring(c, profiles, keys)
			n := 0
			for _, d := range s.ScheduleWaiting(nil) {
				if d.Node != "" {
					n++
					d.Pod.Spec.NodeName = d.Node // as the view shows it next time
				}
			}
			k.Done()
			if n != placed {
				b.Fatalf("%d pods were placed, want %d", n, placed)
			}
		}
	})
}
