package controllers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/replication"
	"k8s.io/kubernetes/pkg/controller/statefulset"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/scheduler"
)

// peer is Kubernetes' controllers on a fake clientset that keeps the rules of the API server on which they build: resource versions,
// generations, the status apart, finalizers, grace periods.
type peer struct {
	t       *testing.T
	client  *fake.Clientset
	mu      sync.Mutex
	version int
	names   int
	running sync.WaitGroup
	// collects tells that Kubernetes' garbage collector runs; without it, what an object alone owned goes with it.
	collects bool
}

func newPeer(t *testing.T) *peer {
	p := &peer{t: t, client: fake.NewSimpleClientset()}
	p.client.PrependReactor("*", "*", p.react)
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := t.Context()
	core, apps, batch := f.Core().V1(), f.Apps().V1(), f.Batch().V1()
	d, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), p.client)
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.NewController(ctx, p.client, core.Pods(), batch.Jobs(), f.Scheduling().V1alpha2().Workloads(), f.Scheduling().V1alpha2().PodGroups())
	if err != nil {
		t.Fatal(err)
	}
	ds, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), p.client, flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), p.client)
	if err != nil {
		t.Fatal(err)
	}
	rs := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), p.client, replicaset.BurstReplicas)
	rc := replication.NewReplicationManager(ctx, core.Pods(), core.ReplicationControllers(), p.client, replication.BurstReplicas)
	ss := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(), apps.ControllerRevisions(), p.client)
	p.run(f, func() { d.Run(ctx, 1) }, func() { j.Run(ctx, 1) }, func() { c.Run(ctx, 1) }, func() { rs.Run(ctx, 1) }, func() { rc.Run(ctx, 1) }, func() { ss.Run(ctx, 1) },
		func() { ds.Run(ctx, 1) })
	return p
}

// run starts informers and the controllers that were built on them, which end with the test.
func (p *peer) run(f informers.SharedInformerFactory, controllers ...func()) {
	ctx := p.t.Context()
	f.Start(ctx.Done())
	for _, c := range controllers {
		p.running.Go(c)
	}
	p.running.Go(func() {
		<-ctx.Done()
		f.Shutdown()
	})
	synctest.Wait()
}

// react is the API server's part.
func (p *peer) react(action clienttesting.Action) (bool, runtime.Object, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gvr, ns := action.GetResource(), action.GetNamespace()
	switch a := action.(type) {
	case clienttesting.CreateActionImpl:
		if gvr.Resource == "events" || a.Subresource != "" {
			return true, a.Object, nil
		}
		o, err := p.create(gvr, ns, a.Object.DeepCopyObject().(object.Object))
		return true, o, err
	case clienttesting.UpdateActionImpl:
		o, err := p.update(gvr, ns, a.Object.DeepCopyObject().(object.Object), a.Subresource)
		return true, o, err
	case clienttesting.PatchActionImpl:
		o, err := p.patched(gvr, ns, a)
		if err == nil {
			o, err = p.update(gvr, ns, o, a.Subresource)
		}
		return true, o, err
	case clienttesting.DeleteActionImpl:
		return true, nil, p.remove(gvr, ns, a.Name, a.DeleteOptions)
	}
	return false, nil, nil
}

func (p *peer) stamp(o object.Object) {
	p.version++
	o.SetResourceVersion(strconv.Itoa(p.version))
}

func (p *peer) create(gvr schema.GroupVersionResource, ns string, o object.Object) (object.Object, error) {
	o.SetNamespace(ns)
	if o.GetName() == "" {
		p.names++
		o.SetName(fmt.Sprintf("%s%05d", o.GetGenerateName(), p.names))
	}
	if _, err := p.client.Tracker().Get(gvr, ns, o.GetName()); err == nil {
		return nil, apierrors.NewAlreadyExists(gvr.GroupResource(), o.GetName())
	}
	p.names++
	admission.PrepareCreate(o, types.UID(fmt.Sprintf("uid-%d", p.names)), time.Now())
	admission.Default(o)
	// The part of controllers that do not run here: the scheduler, for pods that name their node, the node life cycle and the protection of claims.
	switch o := o.(type) {
	case *corev1.Pod:
		o.Spec.NodeName = cmp.Or(o.Spec.NodeName, scheduler.PinnedTo(&o.Spec))
	case *corev1.Node:
		o.Spec.Taints = slices.DeleteFunc(o.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
	case *corev1.PersistentVolumeClaim:
		o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == "kubernetes.io/pvc-protection" })
	}
	p.stamp(o)
	return o, p.client.Tracker().Create(gvr, o, ns)
}

func (p *peer) update(gvr schema.GroupVersionResource, ns string, o object.Object, sub string) (object.Object, error) {
	was, err := p.client.Tracker().Get(gvr, ns, o.GetName())
	if err != nil {
		return nil, err
	}
	old := was.(object.Object)
	if v := o.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(gvr.GroupResource(), o.GetName(), fmt.Errorf("it is at %s", old.GetResourceVersion()))
	}
	if uid := o.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, apierrors.NewConflict(gvr.GroupResource(), o.GetName(), fmt.Errorf("it is another one, %s", old.GetUID()))
	}
	if sub == "status" {
		admission.PrepareStatusUpdate(o, old, time.Now())
	} else {
		admission.PrepareUpdate(o, old)
	}
	if controller.Finished(o) {
		return o, p.gone(gvr, ns, o)
	}
	p.stamp(o)
	return o, p.client.Tracker().Update(gvr, o, ns)
}

func (p *peer) patched(gvr schema.GroupVersionResource, ns string, a clienttesting.PatchActionImpl) (object.Object, error) {
	was, err := p.client.Tracker().Get(gvr, ns, a.Name)
	if err != nil {
		return nil, err
	}
	old, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	var b []byte
	switch a.PatchType {
	case types.StrategicMergePatchType:
		b, err = strategicpatch.StrategicMergePatch(old, a.Patch, was)
	case types.MergePatchType:
		b, err = jsonpatch.MergePatch(old, a.Patch)
	default:
		p.t.Errorf("a patch of the kind %s", a.PatchType)
	}
	if err != nil {
		return nil, err
	}
	k, _ := object.KindOfResource(gvr.Resource)
	o := k.New()
	if err := json.Unmarshal(b, o); err != nil {
		return nil, err
	}
	return o, nil
}

func (p *peer) remove(gvr schema.GroupVersionResource, ns, name string, opts metav1.DeleteOptions) error {
	was, err := p.client.Tracker().Get(gvr, ns, name)
	if err != nil {
		return err
	}
	policy, old := "", was.(object.Object)
	if opts.PropagationPolicy != nil {
		policy = string(*opts.PropagationPolicy)
	}
	if c := opts.Preconditions; c != nil && (c.UID != nil && *c.UID != old.GetUID() || c.ResourceVersion != nil && *c.ResourceVersion != old.GetResourceVersion()) {
		return apierrors.NewConflict(gvr.GroupResource(), name, fmt.Errorf("it is %s at %s", old.GetUID(), old.GetResourceVersion()))
	}
	next, gone := controller.BeginDelete(old, controller.DeleteOptions{PropagationPolicy: policy, GracePeriodSeconds: opts.GracePeriodSeconds}, time.Now())
	switch {
	case gone:
		return p.gone(gvr, ns, old)
	case next != nil:
		p.stamp(next)
		return p.client.Tracker().Update(gvr, next, ns)
	}
	return nil
}

// owned are the resources of what objects of a resource own.
func owned(resource string) []string {
	return map[string][]string{"cronjobs": {"jobs"}, "jobs": {"pods"}, "deployments": {"replicasets"}, "replicasets": {"pods"}, "replicationcontrollers": {"pods"},
		"statefulsets": {"pods", "controllerrevisions", "persistentvolumeclaims"}, "pods": {"persistentvolumeclaims"}, "services": {"endpointslices"}, "endpoints": {"endpointslices"}}[resource]
}

// gone removes an object, and what it alone owned with it: the garbage collector's part.
func (p *peer) gone(gvr schema.GroupVersionResource, ns string, o object.Object) error {
	if err := p.client.Tracker().Delete(gvr, ns, o.GetName()); err != nil {
		return err
	}
	if p.collects {
		return nil
	}
	for _, resource := range owned(gvr.Resource) {
		for _, child := range p.items(resource) {
			refs := child.GetOwnerReferences()
			if len(refs) == 1 && refs[0].UID == o.GetUID() && child.GetDeletionTimestamp() == nil {
				if err := p.remove(gvrOf(resource), ns, child.GetName(), metav1.DeleteOptions{}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// forget removes the pods of a node that is gone, when everybody knows that it is: the pod garbage collector's part.
func (p *peer) forget(node string) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	zero := int64(0)
	for _, o := range p.items("pods") {
		if o.(*corev1.Pod).Spec.NodeName == node {
			if err := p.remove(gvrOf("pods"), "default", o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// The side's part.

// namespaces are where objects of a resource can be: what the courses make is in the first but for what owns, or is owned, across them.
func namespaces(resource string) []string {
	if k, _ := object.KindOfResource(resource); !k.Namespaced {
		return []string{""}
	}
	return []string{"default", "away"}
}

// home is where an object is, or is to be.
func home(o object.Object) string {
	k, _ := object.KindOfObject(o)
	return cmp.Or(o.GetNamespace(), namespaces(k.Resource)[0])
}

func gvrOf(resource string) schema.GroupVersionResource {
	k, _ := object.KindOfResource(resource)
	return k.GVR()
}

func (p *peer) list(resource string) []object.Object {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.items(resource)
}

func (p *peer) items(resource string) []object.Object {
	k, _ := object.KindOfResource(resource)
	var out []object.Object
	for _, ns := range namespaces(resource) {
		list, err := p.client.Tracker().List(k.GVR(), k.GVK, ns)
		if err == nil {
			err = eachItem(list, func(o object.Object) { out = append(out, o) })
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return out
}

func (p *peer) make(o object.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, err := object.KindOfObject(o)
	if err == nil {
		_, err = p.create(k.GVR(), home(o), o)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) change(o object.Object, sub string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, _ := object.KindOfObject(o)
	o.SetResourceVersion("")
	if _, err := p.update(k.GVR(), home(o), o, sub); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) delete(o object.Object, opts controller.DeleteOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, _ := object.KindOfObject(o)
	options := metav1.DeleteOptions{GracePeriodSeconds: opts.GracePeriodSeconds}
	if opts.PropagationPolicy != "" {
		options.PropagationPolicy = ref(metav1.DeletionPropagation(opts.PropagationPolicy))
	}
	if err := p.remove(k.GVR(), home(o), o.GetName(), options); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) settle(time.Time) {
	for synctest.Wait(); p.sweep(); synctest.Wait() {
	}
}

// sweep removes what a controller has made for an owner that was gone by then, and tells whether there was any: the garbage collector's part too.
func (p *peer) sweep() (found bool) {
	if p.collects {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for owner, children := range map[string]string{"replicasets": "pods", "replicationcontrollers": "pods", "jobs": "pods", "deployments": "replicasets"} {
		there := map[types.UID]bool{}
		for _, o := range p.items(owner) {
			there[o.GetUID()] = true
		}
		k, _ := object.KindOfResource(owner)
		for _, child := range p.items(children) {
			ref := metav1.GetControllerOf(child)
			if ref == nil || ref.Kind != k.GVK.Kind || there[ref.UID] || child.GetDeletionTimestamp() != nil {
				continue
			}
			found = true
			if err := p.remove(gvrOf(children), "default", child.GetName(), metav1.DeleteOptions{}); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	return found
}
