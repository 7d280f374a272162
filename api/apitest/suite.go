package apitest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// Stored is what package api is given: what it reads and where it writes.
type Stored interface {
	api.Store
	api.Writer
}

// Suite holds a store and its writer against all that package api relies on: this package's and the real one run the same tests. open gives an empty
// store that has, or will soon have, the preset namespaces.
func Suite(t *testing.T, open func(t *testing.T) Stored) {
	for name, test := range map[string]func(s suite){
		"creation": suite.creation, "taken names": suite.taken, "namespaces": suite.namespaces, "conflicts": suite.conflicts, "no change": suite.noChange,
		"last finalizer": suite.lastFinalizer, "all or none": suite.allOrNone, "dry run": suite.dryRun, "objects of git": suite.git,
		"what a write may change": suite.prepared, "status": suite.status, "addresses": suite.addresses, "pods": suite.pods, "policies": suite.policies,
		"watches": suite.watches, "the past": suite.past, "order": suite.order,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := suite{t, open(t)}
			s.until("the preset namespaces", func() bool { _, ok := s.View().Get(namespaceKey("default")); return ok })
			test(s)
		})
	}
}

type suite struct {
	*testing.T
	Stored
}

// until waits for what comes by itself in a store that has controllers.
func (s suite) until(what string, ok func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if err := s.Wait(ctx, s.View().Rev()+1); err != nil && !ok() {
			s.Fatalf("%s: %v", what, err)
		}
	}
}

func namespaceKey(name string) object.Key { return object.Key{Resource: "namespaces", Name: name} }

func configKey(name string) object.Key {
	return object.Key{Resource: "configmaps", Namespace: "default", Name: name}
}

func config(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"k": "v"}}
}

// submit writes and waits until the view shows it.
func (s suite) submit(ops ...sequencer.Op) ([]object.Object, error) {
	s.Helper()
	return s.request(sequencer.Request{User: "tester", Ops: ops})
}

func (s suite) request(r sequencer.Request) ([]object.Object, error) {
	s.Helper()
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Object != nil {
			op.Key = object.KeyOf(op.Object)
			admission.Default(op.Object)
		}
	}
	res, err := s.Submit(s.Context(), r)
	if err != nil {
		return nil, err
	}
	if err := s.Wait(s.Context(), res.Rev); err != nil {
		s.Fatal(err)
	}
	if len(res.Objects) != len(r.Ops) {
		s.Fatalf("%d answers to %d operations", len(res.Objects), len(r.Ops))
	}
	return res.Objects, nil
}

// must writes one thing.
func (s suite) must(op sequencer.Op) object.Object {
	s.Helper()
	done, err := s.submit(op)
	if err != nil {
		s.Fatalf("%s %s: %v", op.Verb, op.Key, err)
	}
	return done[0]
}

func (s suite) create(o object.Object) object.Object {
	s.Helper()
	return s.must(sequencer.Op{Verb: sequencer.Create, Object: o})
}

// refused demands an error with these words.
func (s suite) refused(is func(error) bool, words string, ops ...sequencer.Op) {
	s.Helper()
	if _, err := s.submit(ops...); !is(err) || !strings.Contains(err.Error(), words) {
		s.Errorf("got %v, want %q", err, words)
	}
}

func (s suite) get(k object.Key) object.Object {
	s.Helper()
	o, ok := s.View().Get(k)
	if !ok {
		s.Fatalf("there is no %s", k)
	}
	return o
}

func (s suite) gone(k object.Key) {
	s.Helper()
	if o, ok := s.View().Get(k); ok {
		s.Errorf("%s is there: %v", k, o)
	}
}

func revision(o object.Object) uint64 {
	n, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err) // a store that gives no revisions fails every test
	}
	return n
}

func (s suite) creation() {
	sent := config("a")
	sent.SetUID("u")
	made := s.create(sent)
	if made.GetUID() != "u" || made.GetResourceVersion() == "" || made.GetCreationTimestamp().Time.IsZero() || sent.ResourceVersion != "" {
		s.Errorf("made %v of %v", made, sent)
	}
	if have := s.get(configKey("a")); have.GetResourceVersion() != made.GetResourceVersion() || have.GetObjectKind().GroupVersionKind().Kind != "ConfigMap" {
		s.Errorf("stored is %v, answered %v", have, made)
	}
	if next := s.create(config("b")); next.GetUID() == "" || revision(next) <= revision(made) {
		s.Errorf("the next has revision %s and UID %q", next.GetResourceVersion(), next.GetUID())
	}
}

func (s suite) taken() {
	held := config("a")
	held.Finalizers = []string{"example.com/hold"}
	s.create(held)
	again := sequencer.Op{Verb: sequencer.Create, Object: config("a")}
	s.refused(apierrors.IsAlreadyExists, `configmaps "a" already exists`, again)
	s.must(sequencer.Op{Verb: sequencer.Delete, Key: configKey("a")})
	s.refused(apierrors.IsAlreadyExists, `object is being deleted: configmaps "a" already exists`, again)
}

func (s suite) namespaces() {
	lost := config("a")
	lost.Namespace = "absent"
	s.refused(apierrors.IsNotFound, `namespaces "absent" not found`, sequencer.Op{Verb: sequencer.Create, Object: lost})
	s.refused(apierrors.IsForbidden, "this namespace may not be deleted", sequencer.Op{Verb: sequencer.Delete, Key: namespaceKey("default")})
	s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	held := config("held")
	held.Namespace, held.Finalizers = "x", []string{"example.com/hold"}
	s.create(held)
	if o := s.must(sequencer.Op{Verb: sequencer.Delete, Key: namespaceKey("x")}); o.GetDeletionTimestamp() == nil {
		s.Errorf("deleted with something in it: %v", o)
	}
	if ns, ok := s.get(namespaceKey("x")).(*corev1.Namespace); !ok || ns.Status.Phase != corev1.NamespaceTerminating {
		s.Errorf("namespace being deleted: %v", ns)
	}
	more := config("more")
	more.Namespace = "x"
	s.refused(apierrors.IsForbidden, "is being terminated", sequencer.Op{Verb: sequencer.Create, Object: more})
}

func (s suite) conflicts() {
	was := s.create(config("a"))
	s.refused(apierrors.IsNotFound, `configmaps "absent" not found`, sequencer.Op{Verb: sequencer.Update, Object: config("absent")})
	s.refused(apierrors.IsNotFound, `configmaps "absent" not found`, sequencer.Op{Verb: sequencer.Delete, Key: configKey("absent")})
	next := config("a")
	next.Data = map[string]string{"k": "w"}
	s.refused(apierrors.IsConflict, "the object has been modified; please apply your changes to the latest version and try again",
		sequencer.Op{Verb: sequencer.Update, Object: next, ResourceVersion: "1"})
	s.refused(apierrors.IsConflict, "Precondition failed: UID in precondition: other, UID in object meta: "+string(was.GetUID()),
		sequencer.Op{Verb: sequencer.Update, Object: next, UID: "other"})
	s.refused(apierrors.IsConflict, "Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: "+was.GetResourceVersion(),
		sequencer.Op{Verb: sequencer.Delete, Key: configKey("a"), ResourceVersion: "1"})
	now := s.must(sequencer.Op{Verb: sequencer.Update, Object: next, ResourceVersion: was.GetResourceVersion(), UID: string(was.GetUID())})
	if c, ok := now.(*corev1.ConfigMap); !ok || c.Data["k"] != "w" || c.UID != was.GetUID() || revision(now) <= revision(was) {
		s.Errorf("updated %v to %v", was, now)
	}
}

func (s suite) noChange() {
	was := s.create(config("a"))
	if now := s.must(sequencer.Op{Verb: sequencer.Update, Object: config("a")}); now.GetResourceVersion() != was.GetResourceVersion() {
		s.Errorf("a write that changes nothing is revision %s after %s", now.GetResourceVersion(), was.GetResourceVersion())
	}
}

func (s suite) lastFinalizer() {
	held := config("a")
	held.Finalizers = []string{"example.com/hold"}
	was := s.create(held)
	waits := s.must(sequencer.Op{Verb: sequencer.Delete, Key: configKey("a")})
	if waits.GetDeletionTimestamp() == nil || waits.GetDeletionGracePeriodSeconds() == nil {
		s.Errorf("being deleted: %v", waits)
	}
	if again := s.must(sequencer.Op{Verb: sequencer.Delete, Key: configKey("a")}); again.GetResourceVersion() != waits.GetResourceVersion() {
		s.Errorf("deleted twice: %v", again)
	}
	free := config("a")
	free.Data = map[string]string{"k": "last"}
	s.must2(sequencer.Op{Verb: sequencer.Update, Object: free})
	s.gone(configKey("a"))
	if got := s.events("configmaps", "default", revision(was)-1, 3); !slices.Equal(got, []string{"ADDED a", "MODIFIED a", "DELETED a"}) {
		s.Errorf("events %v", got)
	}
}

// must2 is must for a write whose object is gone after it.
func (s suite) must2(op sequencer.Op) {
	s.Helper()
	if _, err := s.submit(op); err != nil {
		s.Fatal(err)
	}
}

func (s suite) allOrNone() {
	s.create(config("b"))
	s.refused(apierrors.IsAlreadyExists, `configmaps "b" already exists`,
		sequencer.Op{Verb: sequencer.Create, Object: config("a")}, sequencer.Op{Verb: sequencer.Create, Object: config("b")})
	s.gone(configKey("a"))
	done, err := s.submit(sequencer.Op{Verb: sequencer.Create, Object: config("c")}, sequencer.Op{Verb: sequencer.Delete, Key: configKey("b")})
	if err != nil || done[0].GetName() != "c" || done[1].GetName() != "b" {
		s.Errorf("%v, %v", done, err)
	}
	s.get(configKey("c"))
	s.gone(configKey("b"))
}

func (s suite) dryRun() {
	was := s.create(config("b"))
	next := config("b")
	next.Data = map[string]string{"k": "w"}
	done, err := s.request(sequencer.Request{User: "tester", DryRun: true, Ops: []sequencer.Op{
		{Verb: sequencer.Create, Object: config("a")}, {Verb: sequencer.Update, Object: next},
	}})
	if err != nil {
		s.Fatal(err)
	}
	if c, ok := done[1].(*corev1.ConfigMap); !ok || c.Data["k"] != "w" || done[0].GetUID() == "" {
		s.Errorf("a dry run answers %v", done)
	}
	s.gone(configKey("a"))
	if now := s.get(configKey("b")); now.GetResourceVersion() != was.GetResourceVersion() {
		s.Errorf("a dry run wrote %v", now)
	}
}

func (s suite) git() {
	doc := []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"},"data":{"k":"v"}}`)
	owned := config("a")
	if err := admission.SetGitOwned(owned, admission.Owner{Source: "cluster", Commit: "0123456789abcdef", File: "a.yaml:1"}, doc, time.Unix(1, 0)); err != nil {
		s.Fatal(err)
	}
	if _, err := s.request(sequencer.Request{User: "git", Source: "cluster", Ops: []sequencer.Op{{Verb: sequencer.Create, Object: owned}}}); err != nil {
		s.Fatal(err)
	}
	next := object.Copy(s.get(configKey("a"))).(*corev1.ConfigMap)
	next.Data["k"] = "w"
	s.refused(apierrors.IsForbidden, `git source "cluster" owns data.k`, sequencer.Op{Verb: sequencer.Update, Object: next})
	s.refused(apierrors.IsForbidden, `owned by git source "cluster"`, sequencer.Op{Verb: sequencer.Delete, Key: configKey("a")})
	next.Data = map[string]string{"k": "v", "mine": "x"}
	s.must(sequencer.Op{Verb: sequencer.Update, Object: next})
}

func (s suite) prepared() {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	s.create(ns)
	next := object.Copy(s.get(namespaceKey("x"))).(*corev1.Namespace)
	next.Spec.Finalizers = []corev1.FinalizerName{"example.com/a", corev1.FinalizerKubernetes}
	finalizers := func() string {
		ns, ok := s.get(namespaceKey("x")).(*corev1.Namespace)
		return fmt.Sprint(ok, ns.Spec.Finalizers)
	}
	s.must(sequencer.Op{Verb: sequencer.Update, Object: object.Copy(next)})
	if got := finalizers(); got != "true [kubernetes]" {
		s.Errorf("after an update: %s", got)
	}
	s.must(sequencer.Op{Verb: sequencer.Update, Subresource: "finalize", Object: object.Copy(next)})
	if got := finalizers(); got != "true [example.com/a kubernetes]" {
		s.Errorf("after finalize: %s", got)
	}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}}
	made := s.create(object.Copy(policy))
	policy.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	policy.UID, policy.CreationTimestamp, policy.Generation = "other", metav1.Unix(1, 0), 7
	if now := s.must(sequencer.Op{Verb: sequencer.Update, Object: policy}); made.GetGeneration() != 1 || now.GetGeneration() != 2 || now.GetUID() != made.GetUID() ||
		!now.GetCreationTimestamp().Time.Equal(made.GetCreationTimestamp().Time) {
		s.Errorf("updated %v to %v", made, now)
	}
}

func (s suite) status() {
	set := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}}
	set.Spec.Paused = true
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	set.Spec.Template.Labels = map[string]string{"a": "b"}
	set.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	set.Status.Replicas = 5
	if made, ok := s.create(object.Copy(set)).(*appsv1.Deployment); !ok || made.Status.Replicas == 5 {
		s.Errorf("made with a status: %v", made)
	}
	changed := object.Copy(set)
	changed.Spec.Paused = false
	changed.Status.CollisionCount = new(int32)
	*changed.Status.CollisionCount = 3
	now, ok := s.must(sequencer.Op{Verb: sequencer.UpdateStatus, Subresource: "status", Object: changed}).(*appsv1.Deployment)
	if !ok || !now.Spec.Paused || now.Status.CollisionCount == nil || *now.Status.CollisionCount != 3 {
		s.Errorf("after a write of the status: %v", now)
	}
}

func (s suite) addresses() {
	svc := func(name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	}
	made, ok := s.create(svc("a", "")).(*corev1.Service)
	if !ok || !strings.HasPrefix(made.Spec.ClusterIP, "10.96.") {
		s.Fatalf("made %v", made)
	}
	s.refused(apierrors.IsInvalid, "provided IP is already allocated", sequencer.Op{Verb: sequencer.Create, Object: svc("b", made.Spec.ClusterIP)})
	port := svc("c", "")
	port.Spec.Type = corev1.ServiceTypeNodePort
	if n, ok := s.create(port).(*corev1.Service); !ok || n.Spec.Ports[0].NodePort < 30000 {
		s.Errorf("node port of %v", n)
	}
}

func (s suite) pods() {
	s.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}) // a pod of a node that there is not is cleaned up
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	key := object.Key{Resource: "pods", Namespace: "default", Name: "p"}
	made, ok := s.create(object.Copy(pod)).(*corev1.Pod)
	if !ok || made.Status.Phase != corev1.PodPending || len(made.Spec.Tolerations) != 2 || made.Spec.Priority == nil {
		s.Errorf("made %v", made)
	}
	if waits := s.must(sequencer.Op{Verb: sequencer.Delete, Key: key}); waits.GetDeletionGracePeriodSeconds() == nil || *waits.GetDeletionGracePeriodSeconds() != 30 {
		s.Errorf("being deleted: %v", waits)
	}
	now := int64(0)
	s.must(sequencer.Op{Verb: sequencer.Delete, Key: key, GracePeriodSeconds: &now})
	s.gone(key)
	pod.Spec.NodeName = ""
	pod.Spec.SchedulerName = "nobody"
	s.create(object.Copy(pod))
	s.must(sequencer.Op{Verb: sequencer.Delete, Key: key})
	s.gone(key)
}

// policies: who deletes in the foreground waits for nothing where nothing depends.
func (s suite) policies() {
	for i, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground} {
		name := "a" + strconv.Itoa(i)
		s.create(config(name))
		s.must2(sequencer.Op{Verb: sequencer.Delete, Key: configKey(name), PropagationPolicy: string(policy)})
		s.until(string(policy), func() bool { _, ok := s.View().Get(configKey(name)); return !ok })
	}
}

// events are the next n changes after a revision of the objects that the test made, of which the names have one letter.
func (s suite) events(resource, namespace string, after uint64, n int) []string {
	s.Helper()
	w, err := s.Watch(resource, namespace, after)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	var out []string
	last := after
	for len(out) < n {
		list, upTo, err := w.Next(ctx)
		if err != nil {
			s.Fatalf("after %v: %v", out, err)
		}
		for _, e := range list {
			if e.Rev <= last || e.Rev > upTo {
				s.Errorf("event %d after %d, complete up to %d", e.Rev, last, upTo)
			}
			last = e.Rev
			o := e.Object
			if len(o.GetName()) != 1 {
				continue
			}
			out = append(out, fmt.Sprint(strings.ToUpper(string(e.Type)), " ", o.GetName()))
			if (e.Prev == nil) != (e.Type == cluster.Added) || revision(o) != e.Rev {
				s.Errorf("%s of %v with revision %d, before it %v", e.Type, o, e.Rev, e.Prev)
			}
		}
	}
	return out
}

func (s suite) watches() {
	first := s.create(config("a"))
	next := config("a")
	next.Data = map[string]string{"k": "w"}
	second := s.must(sequencer.Op{Verb: sequencer.Update, Object: next})
	s.create(config("b"))
	s.must(sequencer.Op{Verb: sequencer.Delete, Key: configKey("a")})
	for after, want := range map[uint64]string{
		revision(first) - 1: "ADDED a,MODIFIED a,ADDED b,DELETED a", revision(first): "MODIFIED a,ADDED b,DELETED a", revision(second): "ADDED b,DELETED a",
	} {
		if got := strings.Join(s.events("configmaps", "default", after, strings.Count(want, ",")+1), ","); got != want {
			s.Errorf("after %d: %s, want %s", after, got, want)
		}
	}
	w, err := s.Watch("secrets", "default", s.View().Rev())
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if list, _, err := w.Next(ctx); err == nil || len(list) > 0 {
		s.Errorf("a watch of nothing: %v, %v", list, err)
	}
}

func (s suite) past() {
	first := s.create(config("a"))
	next := config("a")
	next.Data = map[string]string{"k": "w"}
	s.must(sequencer.Op{Verb: sequencer.Update, Object: next})
	v, err := s.ViewAt(revision(first))
	if err != nil {
		s.Fatal(err)
	}
	was, ok := v.Get(configKey("a"))
	if !ok || was.GetResourceVersion() != first.GetResourceVersion() || v.Err() != nil {
		s.Errorf("at %d: %v, %v", revision(first), was, v.Err())
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if err := s.Wait(ctx, s.View().Rev()+1000); err == nil {
		s.Error("the future is here")
	}
	if err := s.Barrier(s.Context()); err != nil {
		s.Error(err)
	}
}

func (s suite) order() {
	for _, ns := range []string{"d", "d-2"} {
		s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		for _, name := range []string{"b", "a", "a-1"} {
			c := config(name)
			c.Namespace, c.UID = ns, types.UID(ns+name)
			s.create(c)
		}
	}
	var got []string
	for o := range s.View().List("configmaps", "") {
		if strings.HasPrefix(o.GetNamespace(), "d") && o.GetNamespace() != "default" && len(o.GetName()) < 4 {
			got = append(got, object.KeyOf(o).Path())
		}
	}
	if len(got) != 6 || !slices.IsSorted(got) {
		s.Errorf("listed %v", got)
	}
	n := 0
	for o := range s.View().List("configmaps", "d") {
		if o.GetNamespace() != "d" {
			s.Errorf("listed %s with namespace d", object.KeyOf(o))
		}
		n++
	}
	if n < 3 {
		s.Errorf("%d listed in d", n)
	}
}
