package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// preset are the namespaces that every cluster has.
var preset = []string{metav1.NamespaceDefault, "kube-node-lease", metav1.NamespacePublic, metav1.NamespaceSystem}

// namespaces makes the four preset namespaces, and empties one that is being deleted before it goes. Its input are namespaces
// and deletions of what they hold, its output namespaces and deletions.
type namespaces struct{ cluster string }

func (namespaces) Name() string { return "namespace" }

func (namespaces) Watches() []string {
	var out []string
	for _, k := range object.Kinds() {
		if k.Namespaced || k.Resource == "namespaces" {
			out = append(out, k.Resource)
		}
	}
	return out
}

// Start makes the preset namespaces appear in an empty cluster.
func (namespaces) Start() []object.Key {
	var out []object.Key
	for _, n := range preset {
		out = append(out, object.Key{Resource: "namespaces", Name: n})
	}
	return out
}

func (namespaces) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "namespaces" {
		emit(ch.Key)
		return
	}
	if ch.Old != nil && ch.New != nil {
		return
	}
	key := object.Key{Resource: "namespaces", Name: ch.Key.Namespace}
	if ns, ok := v.Get(key); ok && ns.GetDeletionTimestamp() != nil {
		emit(key)
	}
}

func (c namespaces) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		if !slices.Contains(preset, key.Name) {
			return Result{}, nil
		}
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: key.Name, UID: HashUID("namespace", c.cluster, key.Name)}}
		return Result{Put: []object.Object{ns}}, nil
	}
	if o.GetDeletionTimestamp() == nil {
		return Result{}, nil
	}
	// Pods go first: what they need, and what guards them, stays until the last of them has ended.
	left := remaining{}
	res := left.take(v, key.Name, func(resource string) bool { return resource == "pods" })
	if len(left.count) == 0 {
		res = left.take(v, key.Name, func(string) bool { return true })
	}
	ns := object.Copy(o).(*corev1.Namespace)
	if len(left.count) == 0 {
		ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	}
	left.tell(ns, now)
	res.Put = append(res.Put, ns)
	return res, nil
}
