package testcluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/sequencer"
)

func deployment(name, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: controller.HashUID(name, "random")}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}},
	}}
	admission.Default(d)
	return d
}

// startReal is three servers with the real controllers and nodes that have registered.
func startReal(t *testing.T, nodes int) *testcluster.Cluster {
	t.Helper()
	c := testcluster.Start(t, testcluster.Config{Nodes: nodes})
	c.WaitFor("the nodes", func(v *cluster.View) bool {
		n := 0
		for range v.List("nodes", "") {
			n++
		}
		return n == nodes
	})
	c.Must(testcluster.Create(testcluster.Namespace("d")))
	return c
}

func available(name string, n int32) func(v *cluster.View) bool {
	return func(v *cluster.View) bool {
		o, ok := v.Get(object.Key{Resource: "deployments", Namespace: "d", Name: name})
		if !ok {
			return false
		}
		d := o.(*appsv1.Deployment)
		return d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == n && d.Status.UpdatedReplicas == n && d.Status.Replicas == n
	}
}

// A rollout goes on while leaders die.
func TestRolloutSurvivesLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 50)
		c.Must(testcluster.Create(deployment("web", "web:1", 100)))
		c.WaitFor("100 replicas available", available("web", 100))
		next := deployment("web", "web:2", 100)
		c.Must(sequencer.Request{Ops: []sequencer.Op{{Verb: sequencer.Update, Key: object.KeyOf(next), Object: next}}})
		first := c.Leader().Index
		c.Kill(first)
		time.Sleep(2 * time.Second)
		c.Restart(first)
		c.Isolate(c.Leader().Index)
		time.Sleep(3 * time.Second)
		c.Heal()
		c.WaitFor("100 new replicas available", available("web", 100))
		c.Settled()
		for o := range c.Leader().View().List("pods", "d") {
			if p := o.(*corev1.Pod); p.DeletionTimestamp == nil && p.Spec.Containers[0].Image != "web:2" {
				t.Errorf("pod %s still runs %s", p.Name, p.Spec.Containers[0].Image)
			}
		}
	})
}

// decided is what must be the same in a forecast and in what is then committed.
func decided(out sequencer.Outcome) []string {
	var all []string
	for _, c := range out.Written {
		verb := "change"
		switch {
		case c.Old == nil:
			verb = "create"
		case c.New == nil:
			verb = "delete"
		}
		line := verb + " " + c.Key.String()
		if p, ok := c.New.(*corev1.Pod); ok {
			line += " on " + p.Spec.NodeName + " uid " + string(p.UID)
		}
		all = append(all, line)
	}
	for _, p := range out.Settled.Placements {
		all = append(all, fmt.Sprintf("place %s on %s", p.Pod, p.Node))
	}
	return all
}

// The forecast of a random commit, made on any server, is what the commit then does, to the pod's name and node.
func TestForecastEqualsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 10)
		placed := 0
		for i := range 200 {
			req := randomCommit(c.Leader().View(), i)
			quiet(t, c)
			out, err := c.Server(i%3).Seq().Forecast(t.Context(), req)
			if err != nil {
				t.Fatalf("commit %d: forecast: %v", i, err)
			}
			res, err := c.Submit(t.Context(), (i+1)%3, req)
			if err != nil {
				t.Fatalf("commit %d: %v", i, err)
			}
			if want, got := decided(out), decided(res.Outcome); !slices.Equal(want, got) {
				t.Fatalf("commit %d:\nforecast %q\nhappened %q", i, want, got)
			}
			for _, p := range res.Outcome.Settled.Placements {
				// By now the rollout may have stopped it again: a scaled old ReplicaSet's newest pod goes first.
				o, ok := res.Outcome.After.Get(p.Pod)
				if !ok || o.(*corev1.Pod).Spec.NodeName != p.Node {
					t.Fatalf("commit %d: %s is not on %s", i, p.Pod, p.Node)
				}
				placed++
			}
		}
		if placed < 200 {
			t.Errorf("only %d pods were placed: the test proves little", placed)
		}
		c.Settled()
	})
}

// quiet waits until nothing changes any more on any server, so that forecast and commit see the same.
func quiet(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	last := uint64(0)
	for same := 0; same < 3; {
		time.Sleep(200 * time.Millisecond)
		rev := c.Leader().View().Rev()
		if rev == last && c.Server(0).View().Rev() == rev && c.Server(1).View().Rev() == rev && c.Server(2).View().Rev() == rev {
			same++
		} else {
			same = 0
		}
		last = rev
	}
}

// randomCommit creates, changes or deletes one to three Deployments.
func randomCommit(v *cluster.View, n int) sequencer.Request {
	req := sequencer.Request{Source: "cluster", Commit: fmt.Sprint(n)}
	taken := map[string]bool{}
	for range 1 + rand.IntN(3) {
		name := fmt.Sprintf("app%d", rand.IntN(8))
		if taken[name] {
			continue
		}
		taken[name] = true
		d := deployment(name, fmt.Sprintf("img:%d", rand.IntN(3)), int32(rand.IntN(15)))
		op := sequencer.Op{Verb: sequencer.Create, Key: object.KeyOf(d), Object: d}
		if live, ok := v.Get(op.Key); ok {
			op.Verb = sequencer.Update
			if rand.IntN(4) == 0 && live.GetDeletionTimestamp() == nil {
				op.Verb, op.Object = sequencer.Delete, nil
			}
		}
		d.UID = controller.HashUID(name, fmt.Sprint(n))
		req.Ops = append(req.Ops, op)
	}
	return req
}
