package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/sequencer"
)

// large is one Deployment of 10,000 replicas.
func large(r *rig) error {
	if err := r.nodes(200); err != nil {
		return err
	}
	if err := r.measure("the plan of a Deployment of 10,000 replicas", func() error { return r.forecast(op(sequencer.Create, deployment("web", 10000)), 10000) }); err != nil {
		return err
	}
	if err := r.measure("the plan of an indexed Job of 5,000 pods", func() error { return r.forecast(op(sequencer.Create, indexed("work", 5000)), 5000) }); err != nil {
		return err
	}
	if err := r.measure("a Deployment of 10,000 replicas, until all are bound", func() error { return r.submit(op(sequencer.Create, deployment("web", 10000))) }); err != nil {
		return err
	}
	if err := r.measure("its pods become ready", func() error { return r.kubelets(10000) }); err != nil {
		return err
	}
	if err := r.measure("one of its pods is not ready", func() error { return r.unready(1) }); err != nil {
		return err
	}
	return r.measure("a rollout of it, at 25 %, until all are new and ready", func() error {
		if err := r.roll("web"); err != nil {
			return err
		}
		return r.kubelets(10000)
	})
}

// indexed is a Job each of whose pods has its index in a label.
func indexed(name string, pods int32) *batchv1.Job {
	mode := batchv1.IndexedCompletion
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d"}}
	j.Spec = batchv1.JobSpec{Completions: &pods, Parallelism: &pods, CompletionMode: &mode, Template: deployment(name, 1).Spec.Template}
	j.Spec.Template.Labels = nil
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	admission.Default(j)
	return j
}

// forecast makes the plan of an operation as `reconcile plan` shows it, and demands that it places so many pods.
func (r *rig) forecast(o sequencer.Op, pods int) error {
	out, err := r.seq.Forecast(context.Background(), sequencer.Request{User: "bench", Ops: []sequencer.Op{o}})
	if err != nil {
		return err
	}
	p, err := plan.Build(plan.Input{Base: out.Base, After: out.After, Requested: out.Requested, Written: out.Written, Outcome: out.Settled})
	if err != nil {
		return err
	}
	if text := plan.Render(p, 100, false); len(out.Settled.Placements) != pods || text == "" {
		return fmt.Errorf("the plan places %d of %d pods:\n%s", len(out.Settled.Placements), pods, text)
	}
	return nil
}

// many are 1,000 Deployments of ten replicas that are rolled at once.
func many(r *rig) error {
	if err := r.nodes(200); err != nil {
		return err
	}
	var ops []sequencer.Op
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("web%04d", i))
		ops = append(ops, op(sequencer.Create, deployment(names[i], 10)))
	}
	if err := r.measure("1,000 Deployments of 10 replicas, until all are ready", func() error {
		if err := r.in(ops); err != nil {
			return err
		}
		return r.kubelets(10000)
	}); err != nil {
		return err
	}
	return r.measure("1,000 rollouts at once, in one request, until all are ready", func() error {
		if err := r.roll(names...); err != nil {
			return err
		}
		return r.kubelets(10000)
	})
}

// drain empties 100 of 1,000 nodes of 20,000 pods.
func drain(r *rig) error {
	if err := r.nodes(1000); err != nil {
		return err
	}
	var ops []sequencer.Op
	for i := range 200 {
		ops = append(ops, op(sequencer.Create, deployment(fmt.Sprintf("web%04d", i), 100)))
	}
	if err := r.in(ops); err != nil {
		return err
	}
	if err := r.kubelets(20000); err != nil {
		return err
	}
	return r.measure("a drain of 100 of 1,000 nodes, until its 2,000 pods are back", func() error {
		var cordon, evict []sequencer.Op
		for i := range 100 {
			o, ok := r.view().Get(object.Key{Resource: "nodes", Name: fmt.Sprintf("n%04d", i)})
			if !ok {
				return fmt.Errorf("there is no node n%04d", i)
			}
			n := object.Copy(o).(*corev1.Node)
			n.Spec.Unschedulable = true
			cordon = append(cordon, op(sequencer.Update, n))
			for p := range r.view().PodsOn(n.Name) {
				evict = append(evict, sequencer.Op{Verb: sequencer.Delete, Key: object.KeyOf(p)})
			}
		}
		if err := r.in(cordon); err != nil {
			return err
		}
		if err := r.in(evict); err != nil {
			return err
		}
		return r.kubelets(20000)
	})
}

// rest is 150,000 pods on 5,000 nodes of which nothing is wanted.
func rest(r *rig) error {
	if err := r.nodes(5000); err != nil {
		return err
	}
	if err := r.measure("1,500 Deployments of 100 replicas, until all are ready", func() error {
		for i := range 1500 {
			if err := r.keepAlive(); err != nil {
				return err
			}
			if err := r.submit(op(sequencer.Create, deployment(fmt.Sprintf("web%04d", i), 100))); err != nil {
				return err
			}
		}
		return r.kubelets(150000)
	}); err != nil {
		return err
	}
	memory()
	if err := r.measure("5,000 nodes renew their leases", r.renew); err != nil {
		return err
	}
	if err := r.measure("20 s in which nothing happens", func() error {
		time.Sleep(20 * time.Second)
		return nil
	}); err != nil {
		return err
	}
	return r.measure("100 pods are not ready, one request each", func() error { return r.unready(100) })
}

// unready takes the readiness of n pods back, one request each.
func (r *rig) unready(n int) error {
	for o := range r.view().List("pods", "d") {
		p := object.Copy(o).(*corev1.Pod)
		for i := range p.Status.Conditions {
			p.Status.Conditions[i].Status = corev1.ConditionFalse
		}
		if err := r.submit(op(sequencer.UpdateStatus, p)); err != nil {
			return err
		}
		if n--; n == 0 {
			return nil
		}
	}
	return fmt.Errorf("there are %d pods too few", n)
}

// burst is 20,000 pods that come to 5,000 nodes, with everything: the manifests are decoded, their Deployments become ReplicaSets and pods, these are
// bound and committed, and each node hears of its own by a watch.
func burst(r *rig) error {
	if err := r.nodes(5000); err != nil {
		return err
	}
	const apps, replicas = 20, 1000
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w, err := cluster.WatchObjects(r.store, "pods", "", r.view().Rev())
	if err != nil {
		return err
	}
	var manifests [][]byte
	for i := range apps {
		text, err := json.Marshal(deployment(fmt.Sprintf("web%04d", i), replicas))
		if err != nil {
			return err
		}
		manifests = append(manifests, text)
	}
	return r.measure("20 Deployments of 1,000 replicas, until their nodes know", func() error {
		failed := make(chan error, apps)
		for _, text := range manifests {
			r.run.Go(func() {
				d := &appsv1.Deployment{}
				if err := json.Unmarshal(text, d); err != nil {
					failed <- err
					return
				}
				failed <- r.submit(op(sequencer.Create, d))
			})
		}
		if err := hear(ctx, w, apps*replicas); err != nil {
			return err
		}
		for range manifests {
			if err := <-failed; err != nil {
				return err
			}
		}
		return nil
	})
}

// hear follows pods until nodes know of so many that are bound to them.
func hear(ctx context.Context, w *cluster.Watch, pods int) error {
	nodes := map[string]map[types.UID]*corev1.Pod{}
	for heard := 0; heard < pods; {
		events, _, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("the nodes know of %d of %d pods: %w", heard, pods, err)
		}
		for _, e := range events {
			p := e.Object.(*corev1.Pod)
			if p.Spec.NodeName == "" {
				continue
			}
			of := nodes[p.Spec.NodeName]
			if of == nil {
				of = map[types.UID]*corev1.Pod{}
				nodes[p.Spec.NodeName] = of
			}
			if of[p.UID] == nil {
				heard++
			}
			of[p.UID] = p
		}
	}
	return nil
}
