package controller_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

func mapKey(name string) object.Key {
	return object.Key{Resource: "configmaps", Namespace: "default", Name: name}
}

// owned puts a config map with owners, each of which waits for it. The UID of one is its name.
func (w *world) owned(name string, change func(*corev1.ConfigMap), owners ...string) {
	yes := true
	c := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	for _, o := range owners {
		c.OwnerReferences = append(c.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o, UID: types.UID(o), BlockOwnerDeletion: &yes})
	}
	if change != nil {
		change(c)
	}
	w.state.Put(c)
}

// owners are the names of an object's owners, "gone" if it is not there.
func (w *world) owners(name string) string {
	o, ok := w.state.Get(mapKey(name))
	if !ok {
		return "gone"
	}
	var out []string
	for _, r := range o.GetOwnerReferences() {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

func (w *world) wantOwners(want map[string]string) {
	w.t.Helper()
	for name, list := range want {
		if got := w.owners(name); got != list {
			w.t.Errorf("the owners of %s are %q, want %q", name, got, list)
		}
	}
}

// TestForegroundLetsGoOfWhatGitDeclares: nobody may delete what a file describes by making it somebody's child.
func TestForegroundLetsGoOfWhatGitDeclares(t *testing.T) {
	w := newWorld(t)
	w.owned("owner", nil)
	w.owned("declared", func(c *corev1.ConfigMap) { c.Annotations = map[string]string{object.AnnotationSource: "main"} }, "owner")
	w.owned("child", nil, "owner")
	w.settle()
	w.deletes(mapKey("owner"), string(metav1.DeletePropagationForeground))
	w.wantOwners(map[string]string{"owner": "gone", "declared": "", "child": "gone"})
}

// TestOrphanKeepsOtherOwners: an owner that lets go of its children takes its own reference alone.
func TestOrphanKeepsOtherOwners(t *testing.T) {
	w := newWorld(t)
	w.owned("one", nil)
	w.owned("two", nil)
	w.owned("child", nil, "one", "two")
	w.settle()
	w.deletes(mapKey("one"), string(metav1.DeletePropagationOrphan))
	w.wantOwners(map[string]string{"one": "gone", "two": "", "child": "two"})
}

// TestAnotherOwnerIsLookedAt gives a child another owner in place of its own, one that is not there.
func TestAnotherOwnerIsLookedAt(t *testing.T) {
	w := newWorld(t)
	w.owned("one", nil)
	w.owned("child", nil, "one")
	w.settle()
	w.owned("child", nil, "nobody")
	w.settle()
	w.wantOwners(map[string]string{"one": "", "child": "gone"})
}

// TestForegroundIsCarriedOn: what comes to an owner that is going in the foreground, and has children itself, goes in the foreground too, though it is looked at
// for another owner that is not there.
func TestForegroundIsCarriedOn(t *testing.T) {
	w := newWorld(t)
	held := func(c *corev1.ConfigMap) { c.Finalizers = []string{"example.com/held"} }
	w.owned("z-owner", nil)
	w.owned("z-held", held, "z-owner")
	w.settle()
	w.deletes(mapKey("z-owner"), string(metav1.DeletePropagationForeground))
	w.owned("b-grandchild", held, "a-child")
	w.owned("a-child", nil, "z-owner", "nobody")
	w.settle()
	o, ok := w.state.Get(mapKey("a-child"))
	if !ok || o.GetDeletionTimestamp() == nil || len(o.GetFinalizers()) != 1 || o.GetFinalizers()[0] != metav1.FinalizerDeleteDependents {
		t.Errorf("%v, want it to wait for its own child", o)
	}
}

// TestOwnerStopsWaiting has an owner wait for a child that is held, and the child change: when it is not the owner's any longer, or need not be waited for, the owner goes.
func TestOwnerStopsWaiting(t *testing.T) {
	for name, change := range map[string]func(refs []metav1.OwnerReference) []metav1.OwnerReference{
		"no owner": func([]metav1.OwnerReference) []metav1.OwnerReference { return nil },
		"another owner": func(refs []metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].Name, refs[0].UID = "other", "other"
			return refs
		},
		"it does not wait": func(refs []metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].BlockOwnerDeletion = nil
			return refs
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.owned("owner", nil)
			w.owned("other", nil)
			w.owned("child", func(c *corev1.ConfigMap) { c.Finalizers = []string{"example.com/held"} }, "owner")
			w.settle()
			w.deletes(mapKey("owner"), string(metav1.DeletePropagationForeground))
			w.wantOwners(map[string]string{"owner": "", "child": "owner"})
			live, _ := w.state.Get(mapKey("child"))
			c := object.Copy(live)
			c.SetOwnerReferences(change(c.GetOwnerReferences()))
			w.state.Put(c)
			w.settle()
			w.wantOwners(map[string]string{"owner": "gone", "other": ""})
		})
	}
}

// TestOwnersThatCannotBeLookedFor: who names an owner of an unknown kind, or names one of a namespace and has none itself, is left as it is, and is not waited for.
func TestOwnersThatCannotBeLookedFor(t *testing.T) {
	w := newWorld(t)
	role := &rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}, ObjectMeta: metav1.ObjectMeta{Name: "role", UID: "role"}}
	yes := true
	for _, owner := range []string{"one", "two"} {
		w.owned(owner, nil)
		role.OwnerReferences = append(role.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner, UID: types.UID(owner), BlockOwnerDeletion: &yes})
	}
	w.state.Put(role)
	w.owned("child", func(c *corev1.ConfigMap) {
		c.OwnerReferences[1].APIVersion, c.OwnerReferences[1].Kind = "example.com/v1", "Thing"
	}, "nobody", "thing", "one")
	w.settle()
	w.deletes(mapKey("one"), "")
	w.deletes(mapKey("two"), string(metav1.DeletePropagationForeground))
	w.wantOwners(map[string]string{"one": "gone", "two": "gone", "child": "nobody thing one"})
	o, ok := w.state.Get(object.KeyOf(role))
	if !ok || o.GetDeletionTimestamp() != nil || len(o.GetOwnerReferences()) != 2 {
		t.Errorf("the role is %v, want it as it was", o)
	}
}

// TestOrphansItself: an object that owns itself, and lets go of what it owns, lets go of itself too.
func TestOrphansItself(t *testing.T) {
	w := newWorld(t)
	w.owned("own", func(c *corev1.ConfigMap) { c.Finalizers = []string{"example.com/held"} }, "own")
	w.settle()
	w.deletes(mapKey("own"), string(metav1.DeletePropagationOrphan))
	w.wantOwners(map[string]string{"own": ""})
	if o, _ := w.state.Get(mapKey("own")); len(o.GetFinalizers()) != 1 {
		t.Errorf("its finalizers are %v, want the one that was there", o.GetFinalizers())
	}
}
