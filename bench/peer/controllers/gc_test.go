package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"

	"reconcile/controller"
	"reconcile/object"
)

// collected are the resources that the garbage collector's courses are about: two of a namespace, and one without.
var collected = []string{"configmaps", "secrets", "clusterroles"}

// runCollector starts Kubernetes' garbage collector, with one worker: of several, which one sees a circle first is chance.
func (p *peer) runCollector() {
	p.collects = true
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	mapper := apimeta.NewDefaultRESTMapper(nil)
	kinds := kindList{}
	for _, resource := range collected {
		k, _ := object.KindOfResource(resource)
		scope := apimeta.RESTScopeRoot
		if k.Namespaced {
			scope = apimeta.RESTScopeNamespace
		}
		mapper.AddSpecific(k.GVK, k.GVR(), k.GVR(), scope)
		kinds.lists = append(kinds.lists, &metav1.APIResourceList{GroupVersion: k.GVK.GroupVersion().String(),
			APIResources: []metav1.APIResource{{Name: resource, Namespaced: k.Namespaced, Kind: k.GVK.Kind, Verbs: metav1.Verbs{"delete", "list", "watch"}}}})
	}
	client := metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme())
	client.PrependReactor("*", "*", p.reactMetadata)
	started := make(chan struct{})
	close(started)
	c, err := garbagecollector.NewGarbageCollector(ctx, p.client, client, fixedMapper{mapper}, garbagecollector.DefaultIgnoredResources(), f, started)
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(f, func() { c.Run(ctx, 1, time.Minute) }, func() { c.Sync(ctx, kinds, time.Hour) })
	time.Sleep(time.Second) // it looks each 100 ms whether it has seen all there is
	synctest.Wait()
}

// fixedMapper has nothing to forget.
type fixedMapper struct{ apimeta.RESTMapper }

func (fixedMapper) Reset() {}

// kindList tells which kinds there are.
type kindList struct {
	discovery.ServerResourcesInterface
	lists []*metav1.APIResourceList
}

func (k kindList) ServerPreferredResources() ([]*metav1.APIResourceList, error) { return k.lists, nil }

// reactMetadata is the API server's part for who asks for objects' metadata only.
func (p *peer) reactMetadata(action clienttesting.Action) (bool, runtime.Object, error) {
	if a, ok := action.(clienttesting.GetActionImpl); ok {
		o, err := p.client.Tracker().Get(a.GetResource(), a.GetNamespace(), a.GetName())
		if err != nil {
			return true, nil, err
		}
		return true, apimeta.AsPartialObjectMetadata(o.(object.Object)), nil
	}
	handled, o, err := p.react(action)
	if !handled {
		p.t.Errorf("nobody answers %s of %s", action.GetVerb(), action.GetResource())
	}
	if o == nil || err != nil {
		return true, nil, err
	}
	return true, apimeta.AsPartialObjectMetadata(o.(object.Object)), nil
}

// family is a course of objects that own each other. An object's name here is RESOURCE/NAMESPACE/NAME#N, where N counts those that had the place: the UIDs of the
// two sides differ.
type family struct {
	*match
	uids  map[side]map[string]types.UID
	count map[string]int
}

func newFamily(m *match) *family {
	m.a.(*peer).runCollector()
	f := &family{match: m, uids: map[side]map[string]types.UID{m.a: {}, m.b: {}}, count: map[string]int{}}
	m.lines = f.show
	return f
}

// placeOf is an object's name without its number.
func placeOf(o object.Object) string {
	k, _ := object.KindOfObject(o)
	return strings.Join([]string{k.Resource, o.GetNamespace(), o.GetName()}, "/")
}

// nameOf is an object's name by its UID; what no object had, and what is of another place than it says, shows so.
func (f *family) nameOf(s side, uid types.UID) string {
	for name, u := range f.uids[s] {
		if u == uid {
			return name
		}
	}
	return "nobody"
}

// show writes the objects with who owns them. Of one that is going it leaves out owners that go too: Kubernetes' collector takes the reference to one of them
// away, or sees that all go, as it meets them.
func (f *family) show(s side) (out []string) {
	for _, resource := range collected {
		for _, o := range s.list(resource) {
			line := f.nameOf(s, o.GetUID())
			if o.GetDeletionTimestamp() != nil {
				line += ", going"
			}
			if list := o.GetFinalizers(); len(list) > 0 {
				line += fmt.Sprintf(", %s", slices.Sorted(slices.Values(list)))
			}
			for _, r := range o.GetOwnerReferences() {
				if o.GetDeletionTimestamp() != nil && !f.stays(s, r.UID) {
					continue
				}
				line += fmt.Sprintf(", of %s %s=%s", r.Kind, r.Name, f.nameOf(s, r.UID))
				if r.BlockOwnerDeletion != nil {
					line += fmt.Sprintf(" blocks %v", *r.BlockOwnerDeletion)
				}
			}
			out = append(out, line)
		}
	}
	return out
}

// there is the object with a UID on a side, nil if there is none.
func (f *family) there(s side, uid types.UID) object.Object {
	for _, resource := range collected {
		for _, o := range s.list(resource) {
			if o.GetUID() == uid {
				return o
			}
		}
	}
	return nil
}

// stays tells whether there is an object with a UID that nobody has deleted.
func (f *family) stays(s side, uid types.UID) bool {
	o := f.there(s, uid)
	return o != nil && o.GetDeletionTimestamp() == nil
}

// owner is a reference to come: to the object of a name, as which kind and name it is called there if not its own, and whether it waits.
type owner struct {
	name   string // see family
	blocks bool
	kind   string // "" is its own
	called string // "" is its own
}

// refs are the references to owners on a side.
func (f *family) refs(s side, owners []owner) (out []metav1.OwnerReference) {
	for _, w := range owners {
		where, _, _ := strings.Cut(w.name, "#")
		part := strings.Split(where, "/")
		k, _ := object.KindOfResource(part[0])
		r := metav1.OwnerReference{APIVersion: k.GVK.GroupVersion().String(), Kind: k.GVK.Kind, Name: part[2], UID: f.uids[s][w.name]}
		if r.UID == "" {
			r.UID = types.UID("never " + w.name)
		}
		if w.kind != "" {
			r.APIVersion, r.Kind = "example.com/v1", w.kind
		}
		if w.called != "" {
			r.Name = w.called
		}
		if w.blocks {
			r.BlockOwnerDeletion = ref(true)
		}
		out = append(out, r)
	}
	return out
}

// born makes an object at a place.
func (f *family) born(where string, finalizers []string, owners ...owner) string {
	f.count[where]++
	name := fmt.Sprintf("%s#%d", where, f.count[where])
	f.say("make %s of %v, finalizers %v", name, owners, finalizers)
	part := strings.Split(where, "/")
	for _, s := range []side{f.a, f.b} {
		k, _ := object.KindOfResource(part[0])
		o := k.New()
		o.SetNamespace(part[1])
		o.SetName(part[2])
		o.SetFinalizers(slices.Clone(finalizers))
		o.SetOwnerReferences(f.refs(s, owners))
		s.make(o)
		f.uids[s][name] = o.GetUID()
	}
	return name
}

// find is the object at a place, nil if there is none.
func (f *family) find(s side, where string) object.Object {
	resource, _, _ := strings.Cut(where, "/")
	for _, o := range s.list(resource) {
		if placeOf(o) == where {
			return o
		}
	}
	return nil
}

// owned gives an object other owners.
func (f *family) owned(where string, owners ...owner) {
	f.say("%s is of %v", where, owners)
	f.at(where, func(s side, o object.Object) {
		o.SetOwnerReferences(f.refs(s, owners))
		s.change(o, "")
	})
}

// released takes somebody's finalizer away.
func (f *family) released(where string) {
	f.say("release %s", where)
	f.at(where, func(s side, o object.Object) {
		o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(x string) bool { return x == hold }))
		s.change(o, "")
	})
}

const hold = "example.com/hold"

// deleted begins the deletion of an object.
func (f *family) deleted(where string, policy metav1.DeletionPropagation) {
	f.say("delete %s %s", where, policy)
	f.at(where, func(s side, o object.Object) {
		s.delete(o, controller.DeleteOptions{PropagationPolicy: string(policy)})
	})
}

// at does something with a copy of an object on both sides.
func (f *family) at(where string, do func(side, object.Object)) {
	for _, s := range []side{f.a, f.b} {
		if o := f.find(s, where); o != nil {
			do(s, object.Copy(o))
		}
	}
}

// places are where objects of the courses can be.
func places() (out []string) {
	for _, name := range []string{"a", "b", "c", "d"} {
		out = append(out, "configmaps/default/"+name, "secrets/default/"+name)
	}
	return append(out, "configmaps/away/a", "configmaps/away/b", "clusterroles//a", "clusterroles//b")
}

// owners draws up to three owners for what is, or comes, at a place. Who names an owner wrongly, from another namespace or by another name, does not have it wait:
// to Kubernetes' collector a UID is enough for that, and not for anything else. What gets an owner that is being deleted in the foreground goes here, and there only
// when the owner is looked at again: nothing does. Who has a finalizer waits for all it owns: if it is deleted because its own owner is, Kubernetes' collector may see that it
// waits for nobody before it has looked at those, and then they stay until the finalizer is gone; and so it is in circles. What has no namespace either has owners that have none, or such that have one, which cannot be looked for:
// the collector does not look again at what one of these was taken from.
func (f *family) owners(at string) (out []owner) {
	ns, own := strings.Split(at, "/")[1], f.find(f.a, at)
	global := f.flip(2)
	for range f.rng.IntN(4) {
		where := pick(f.match, places()...)
		part := strings.Split(where, "/")
		live := f.find(f.a, where)
		switch {
		case live != nil && slices.Contains(live.GetFinalizers(), metav1.FinalizerDeleteDependents):
			continue
		case ns == "" && (part[1] == "") != global:
			continue
		case live != nil && own != nil && f.reaches(live, own.GetUID(), map[types.UID]bool{}) && f.anyHeld():
			continue
		}
		n := f.count[where]
		if f.flip(12) {
			n = f.rng.IntN(n + 1) // one of before, or one that never was
		}
		w := owner{name: fmt.Sprintf("%s#%d", where, n)}
		if own == nil && f.flip(30) { // it looks again for owners by other UIDs, and not by other names
			w.called = pick(f.match, "a", "b", "zzz")
		}
		w.blocks = (part[1] == "" || part[1] == ns) && w.called == "" && (live != nil && held(live) || !f.flip(3))
		if !slices.ContainsFunc(out, func(x owner) bool { return x.name == w.name }) {
			out = append(out, w)
		}
	}
	return out
}

// held tells whether somebody's finalizer is on an object.
func held(o object.Object) bool { return slices.Contains(o.GetFinalizers(), hold) }

func (f *family) anyHeld() bool {
	return slices.ContainsFunc(collected, func(resource string) bool { return slices.ContainsFunc(f.a.list(resource), held) })
}

// reaches tells whether an object is the one with a UID, or one of its owners or theirs is.
func (f *family) reaches(o object.Object, uid types.UID, seen map[types.UID]bool) bool {
	if o == nil || seen[o.GetUID()] {
		return false
	}
	seen[o.GetUID()] = true
	return o.GetUID() == uid || slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return f.reaches(f.there(f.a, r.UID), uid, seen) })
}

// lingering is the place of an object that is held while it, or another, is going and has an owner that stays; empty if there is none. If the owner were deleted then, Kubernetes'
// collector would see a circle where there is none: it takes what waits for its dependents, or ever did, for one.
func (f *family) lingering() (where string) {
	found := false
	for _, resource := range collected {
		for _, o := range f.a.list(resource) {
			if o.GetDeletionTimestamp() == nil {
				continue
			}
			if held(o) {
				where = placeOf(o)
			}
			found = found || slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return f.stays(f.a, r.UID) })
		}
	}
	if !found {
		return ""
	}
	return where
}

// step draws one step.
func (f *family) step() {
	if where := f.lingering(); where != "" {
		f.released(where)
		return
	}
	for {
		where := pick(f.match, places()...)
		there := f.find(f.a, where)
		switch n := f.rng.IntN(12); {
		case n < 6 && there == nil:
			var finalizers []string
			if f.flip(5) {
				finalizers = []string{hold}
			}
			f.born(where, finalizers, f.owners(where)...)
		case n < 6:
			continue
		case there == nil:
			continue
		case n < 9:
			f.deleted(where, pick(f.match, "", metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan))
		case n < 11 && there.GetDeletionTimestamp() == nil: // TestOwnersAtTheEdges does it with one that is going: which of two going owners a child was taken from is chance
			f.owned(where, f.owners(where)...)
		case n == 11 && held(there):
			f.released(where)
		default:
			continue
		}
		return
	}
}

// TestGarbageCollector compares which objects go, wait and lose owners: deleted with each policy and again with another; of several owners, none, ones of before or of
// another namespace, ones that were never there; in circles; with finalizers of somebody's; and given other owners meanwhile.
func TestGarbageCollector(t *testing.T) { collectorCourses(t, play) }

func collectorCourses(t *testing.T, play player) {
	var f *family
	play(t, 40, func(m *match) {
		f = newFamily(m)
	}, func(*match) { f.step() })
}

// TestOwnersAtTheEdges plays courses that chance seldom draws, or that the random ones leave out. What an owner that cannot be looked for is taken from gets another one that is not
// there: Kubernetes' collector does not look at those again that it had before.
func TestOwnersAtTheEdges(t *testing.T) {
	const a, b, c, d, far, role = "configmaps/default/a", "configmaps/default/b", "configmaps/default/c", "configmaps/default/d", "configmaps/away/a", "clusterroles//a"
	no := func(f *family, where string) { f.born(where, nil) }
	for name, steps := range map[string][]func(f *family){
		"what has no namespace names one that has": {
			func(f *family) { no(f, a); no(f, b) },
			func(f *family) { f.born(role, nil, owner{name: a + "#1"}, owner{name: b + "#1", blocks: true}) },
			func(f *family) { f.deleted(a, metav1.DeletePropagationBackground) },
			func(f *family) { f.owned(role, owner{name: a + "#1"}, owner{name: "clusterroles//b#0"}) },
			func(f *family) { f.deleted(b, metav1.DeletePropagationForeground) },
			func(f *family) { f.owned(role, owner{name: "clusterroles//c#0"}) },
		},
		"an unknown kind among others": {
			func(f *family) { no(f, a) },
			func(f *family) {
				f.born(b, nil, owner{name: a + "#1", blocks: true}, owner{name: c + "#0", kind: "Thing"}, owner{name: d + "#0"})
			},
			func(f *family) { f.deleted(a, metav1.DeletePropagationForeground) },
			func(f *family) { f.owned(b, owner{name: "secrets/default/a#0"}) },
		},
		"a child that is held is given up": {
			func(f *family) { no(f, a); no(f, c) },
			func(f *family) { f.born(b, []string{hold}, owner{name: a + "#1", blocks: true}) },
			func(f *family) { f.deleted(a, metav1.DeletePropagationForeground) },
			func(f *family) { f.owned(b, owner{name: c + "#1", blocks: true}) },
			func(f *family) { f.deleted(c, metav1.DeletePropagationForeground) },
			func(f *family) { f.owned(b, owner{name: c + "#1"}) },
			func(f *family) { f.released(b) },
		},
		"another policy while it waits": {
			func(f *family) { no(f, a) },
			func(f *family) {
				f.born(b, []string{hold}, owner{name: a + "#1", blocks: true})
				f.born(c, nil, owner{name: b + "#1", blocks: true})
			},
			func(f *family) { f.deleted(a, metav1.DeletePropagationForeground) },
			func(f *family) { f.deleted(a, metav1.DeletePropagationBackground) },
			func(f *family) { f.released(b) },
		},
		"three in a circle, and one of them again": {
			func(f *family) { no(f, a); no(f, b); no(f, c) },
			func(f *family) {
				f.owned(a, owner{name: b + "#1", blocks: true})
				f.owned(b, owner{name: c + "#1", blocks: true})
				f.owned(c, owner{name: a + "#1", blocks: true})
			},
			func(f *family) { f.deleted(b, metav1.DeletePropagationForeground) },
			func(f *family) { f.born(a, nil, owner{name: b + "#1"}) },
		},
		"itself": {
			func(f *family) { f.born(a, []string{hold}) },
			func(f *family) { f.owned(a, owner{name: a + "#1", blocks: true}) },
			func(f *family) { f.deleted(a, metav1.DeletePropagationForeground) },
			func(f *family) { f.deleted(a, metav1.DeletePropagationOrphan) },
			func(f *family) { f.released(a) },
		},
		"across namespaces": {
			func(f *family) { no(f, a); no(f, role) },
			func(f *family) {
				f.born(far, nil, owner{name: a + "#1", blocks: true}, owner{name: role + "#1", blocks: true})
			},
			func(f *family) { f.born("configmaps/away/b", nil, owner{name: a + "#1"}) },
			func(f *family) { f.deleted(role, metav1.DeletePropagationForeground) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFamily(&match{t: t, a: newPeer(t), b: newOurs(t)})
				for _, step := range steps {
					step(f)
					f.wait(pause)
					f.compare()
				}
			})
		})
	}
}
