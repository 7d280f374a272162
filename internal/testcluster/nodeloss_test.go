package testcluster_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// lifeOf is what can be seen of a node: its Ready condition, and whether it has both taints of an unreachable one.
func lifeOf(v *cluster.View, name string) (ready corev1.ConditionStatus, tainted bool) {
	o, ok := v.Get(object.Key{Resource: "nodes", Name: name})
	if !ok {
		return "", false
	}
	n := o.(*corev1.Node)
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ready = c.Status
		}
	}
	effects := map[corev1.TaintEffect]bool{}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeUnreachable {
			effects[t.Effect] = true
		}
	}
	return ready, effects[corev1.TaintEffectNoSchedule] && effects[corev1.TaintEffectNoExecute]
}

// readyEndpoints counts the ready endpoints of a service by node.
func readyEndpoints(v *cluster.View, service string) map[string]int {
	out := map[string]int{}
	for o := range v.List("endpointslices", "d") {
		s := o.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				out[*e.NodeName]++
			}
		}
	}
	return out
}

// TestNodeLossAndReturn switches a node's agent off and on again: after 40 s without a sign the node is Unknown and tainted and its
// pods take no more traffic; when it is heard again all of that is undone, and no pod was made anew.
func TestNodeLossAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 3)
		c.Must(testcluster.Create(deployment("web", "web:1", 6)))
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web"},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}}
		admission.Default(svc)
		c.Must(testcluster.Create(svc))
		spread := fmt.Sprint(map[string]int{"n00": 2, "n01": 2, "n02": 2})
		c.WaitFor("two ready endpoints a node", func(v *cluster.View) bool { return fmt.Sprint(readyEndpoints(v, "web")) == spread })
		pods := podUIDs(c.Leader().View())

		c.StopNode(1)
		stopped := time.Now()
		time.Sleep(25 * time.Second)
		if ready, tainted := lifeOf(c.Leader().View(), "n01"); ready != corev1.ConditionTrue || tainted {
			t.Errorf("after 25 s of silence the node is Ready=%s, tainted %v", ready, tainted)
		}
		c.WaitFor("the silent node is Unknown and tainted", func(v *cluster.View) bool {
			ready, tainted := lifeOf(v, "n01")
			return ready == corev1.ConditionUnknown && tainted
		})
		// The last sign was at most one renewal old when the agent stopped.
		if after := time.Since(stopped); after < 30*time.Second || after > 41*time.Second {
			t.Errorf("the node was lost after %s, want 40 s from its last sign", after)
		}
		want := fmt.Sprint(map[string]int{"n00": 2, "n02": 2})
		c.WaitFor("its endpoints have left the service", func(v *cluster.View) bool { return fmt.Sprint(readyEndpoints(v, "web")) == want })
		if after := time.Since(stopped); after > 42*time.Second {
			t.Errorf("its endpoints stayed for %s", after)
		}

		c.StartNode(1)
		c.WaitFor("the node is back", func(v *cluster.View) bool {
			ready, tainted := lifeOf(v, "n01")
			return ready == corev1.ConditionTrue && !tainted
		})
		c.WaitFor("its endpoints are back", func(v *cluster.View) bool { return fmt.Sprint(readyEndpoints(v, "web")) == spread })
		if now := podUIDs(c.Leader().View()); now != pods {
			t.Errorf("pods were made anew:\n%s\nbefore\n%s", now, pods)
		}
		c.Settled()
	})
}

func podUIDs(v *cluster.View) string {
	var out []string
	for o := range v.List("pods", "d") {
		out = append(out, o.GetName()+" "+string(o.GetUID()))
	}
	return fmt.Sprint(out)
}

// TestNodesLiveWhilePodsChange: a fake node renews its lease also while its watch of pods is never still for the time of a renewal.
func TestNodesLiveWhilePodsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 3)
		d := deployment("web", "web:0", 1)
		c.Must(testcluster.Create(d))
		for i := range 24 { // two minutes, three times the grace of a node
			time.Sleep(5 * time.Second)
			d = deployment("web", fmt.Sprintf("web:%d", i+1), 1)
			c.Must(sequencer.Request{Ops: []sequencer.Op{{Verb: sequencer.Update, Key: object.KeyOf(d), Object: d}}})
			for _, name := range []string{"n00", "n01", "n02"} {
				if ready, tainted := lifeOf(c.Leader().View(), name); ready != corev1.ConditionTrue || tainted {
					t.Fatalf("after %d s node %s is Ready=%s, tainted %v", 5*(i+1), name, ready, tainted)
				}
			}
		}
	})
}

// TestLeasesStayFresh renews nodes' leases through a change of leaders: no server that runs ever shows one older than 15 s, but for what
// the outage itself takes, no node is lost, and no renewal takes a revision.
func TestLeasesStayFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 3)
		time.Sleep(time.Minute)
		c.Settled()
		rev := c.Leader().View().Rev()
		check := func(limit time.Duration) {
			for i := range 3 {
				s := c.Server(i)
				if !s.Running() {
					continue
				}
				v := s.View()
				for o := range v.List("leases", corev1.NamespaceNodeLease) {
					if age := time.Since(o.(*coordinationv1.Lease).Spec.RenewTime.Time); age > limit {
						t.Fatalf("server %s shows the lease of %s as it was %s ago", s.ID, o.GetName(), age)
					}
				}
				for _, n := range []string{"n00", "n01", "n02"} {
					if ready, _ := lifeOf(v, n); ready != corev1.ConditionTrue {
						t.Fatalf("server %s shows node %s Ready=%s", s.ID, n, ready)
					}
				}
			}
		}
		for range 120 {
			time.Sleep(500 * time.Millisecond)
			check(15 * time.Second)
		}
		// Servers renew leases of their own as writes, one each 10 s.
		if took := c.Leader().View().Rev() - rev; took > 3*7 {
			t.Errorf("a minute took %d revisions", took)
		}
		c.Kill(c.Leader().Index)
		for range 40 {
			time.Sleep(500 * time.Millisecond)
			check(25 * time.Second)
		}
		for range 120 {
			time.Sleep(500 * time.Millisecond)
			check(15 * time.Second)
		}
	})
}
