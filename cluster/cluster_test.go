package cluster_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

var (
	_ controller.View    = (*cluster.View)(nil)
	_ controller.Overlay = (*cluster.Overlay)(nil)
)

func pod(ns, name, node, owner string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(ns + "." + name)}, Spec: corev1.PodSpec{NodeName: node}}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	if owner != "" {
		controls := owner != "o3" // which only owns
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(owner), Controller: &controls}}
	}
	return p
}

// openStore is a store of one member that leads.
func openStore(t testing.TB) *raftstore.Store { return openRing(t, 0) }

// openRing is openStore with so many events for watches to share; what is older they read from the versions.
func openRing(t testing.TB, events int) *raftstore.Store {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	s, err := raftstore.Open(raftstore.Config{HistoryEvents: events, Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for !s.Leader().Self {
		<-s.LeaderChanged()
	}
	if err := s.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func store(t testing.TB, s *raftstore.Store, list ...object.Object) uint64 {
	t.Helper()
	e := raftstore.Entry{Base: s.View().Rev()}
	for _, o := range list {
		body, err := object.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		e.Ops = append(e.Ops, raftstore.Op{Kind: raftstore.Put, Key: object.KeyOf(o).Path(), Value: body})
	}
	out, err := s.Propose(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return out.Last
}

func remove(t testing.TB, s *raftstore.Store, k object.Key) {
	t.Helper()
	if _, err := s.Propose(t.Context(), raftstore.Entry{Base: s.View().Rev(), Ops: []raftstore.Op{{Kind: raftstore.Delete, Key: k.Path()}}}); err != nil {
		t.Fatal(err)
	}
}

func names[T object.Object](seq iter.Seq[T]) string {
	var out []string
	for o := range seq {
		out = append(out, o.GetNamespace()+"/"+o.GetName())
	}
	return strings.Join(out, " ")
}

func TestViewFollowsTheIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		defer s.Close()
		done := pod("d", "ended", "", "")
		done.Status.Phase = corev1.PodSucceeded
		pushed, elsewhere := pod("g", "a", "n3", ""), pod("g", "b", "n3", "")
		pushed.Annotations = map[string]string{object.AnnotationSource: "cluster"}
		elsewhere.Annotations = map[string]string{object.AnnotationSource: "cluster-2"}
		store(t, s, pod("d", "a", "n1", "o1"), pod("d", "b", "n2", "o1"), pod("e", "c", "", "o2"), done, pod("d-2", "x", "n10", ""), pushed, elsewhere)
		v := cluster.NewView(s.View())
		for what, c := range map[string][2]string{
			"list of a namespace": {names(v.List("pods", "d")), "d/a d/b d/ended"},
			"owned":               {names(v.Owned("o1")), "d/a d/b"},
			"on n1":               {names(v.PodsOn("n1")), "d/a"},
			"unbound":             {names(v.Unbound()), "e/c"},
			"orphans":             {names(v.Orphans("pods", "d")), "d/ended"},
			"of a source":         {names(v.FromSource("cluster")), "g/a"},
		} {
			if c[0] != c[1] {
				t.Errorf("%s: %s, want %s", what, c[0], c[1])
			}
		}
		store(t, s, pod("e", "c", "n1", "o1"))
		remove(t, s, object.Key{Resource: "pods", Namespace: "d", Name: "a"})
		now := cluster.NewView(s.View())
		if got := names(now.Owned("o1")) + "|" + names(now.PodsOn("n1")) + "|" + names(now.Unbound()); got != "d/b e/c|e/c|" {
			t.Errorf("after a change: %s", got)
		}
		if got := names(v.PodsOn("n1")); got != "d/a" {
			t.Errorf("an old view shows %s", got)
		}
		k := object.Key{Resource: "pods", Namespace: "d", Name: "b"}
		one, _ := cluster.NewView(s.View()).Get(k)
		two, _ := cluster.NewView(s.View()).Get(k)
		if one != two {
			t.Error("one stored version was decoded twice")
		}
	})
}

func TestWatchGivesTypedEventsWithTheObjectBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		defer s.Close()
		w, err := cluster.WatchObjects(s, "pods", "d", 0)
		if err != nil {
			t.Fatal(err)
		}
		store(t, s, pod("d", "a", "", ""), pod("e", "other", "", ""))
		store(t, s, pod("d", "a", "n1", ""))
		remove(t, s, object.Key{Resource: "pods", Namespace: "d", Name: "a"})
		var got []string
		for len(got) < 3 {
			events, _, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				prev := "-"
				if e.Prev != nil {
					prev = e.Prev.(*corev1.Pod).Spec.NodeName
				}
				got = append(got, fmt.Sprintf("%d %s %q before %q at %s", e.Rev, e.Type, e.Object.(*corev1.Pod).Spec.NodeName, prev, e.Object.GetResourceVersion()))
			}
		}
		want := []string{`1 ADDED "" before "-" at `, `3 MODIFIED "n1" before "" at `, `4 DELETED "n1" before "n1" at 4`}
		if !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// The events of the oldest revision that the history shows do not tell what was before. A watch of objects that begins there has come too late, and
// says so: it cannot tell a deletion, and would call a change a creation.
func TestWatchAtTheFloorOfTheHistory(t *testing.T) {
	for name, tc := range map[string]struct {
		floor uint64
		late  bool
	}{"a change": {3, true}, "a deletion": {4, true}, "a creation": {5, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openRing(t, 1)
				defer s.Close()
				store(t, s, pod("d", "a", "", ""), pod("d", "b", "", ""))
				store(t, s, pod("d", "b", "n1", ""))
				remove(t, s, object.Key{Resource: "pods", Namespace: "d", Name: "a"})
				store(t, s, pod("d", "c", "", ""))
				store(t, s, pod("d", "d", "", ""))
				if _, err := s.Propose(t.Context(), raftstore.Entry{Base: s.View().Rev(), Ops: []raftstore.Op{raftstore.Compaction(tc.floor)}}); err != nil {
					t.Fatal(err)
				}
				for _, behind := range []bool{false, true} {
					after := tc.floor
					if !behind {
						after--
					}
					w, err := cluster.WatchObjects(s, "pods", "d", after)
					var events []cluster.Event
					if err == nil {
						events, _, err = w.Next(t.Context())
					}
					if late := tc.late && !behind; late != errors.Is(err, raftstore.ErrCompacted) || !late && (err != nil || events[0].Rev != after+1) {
						t.Errorf("a watch after %d of the floor %d was told %d events: %v", after, tc.floor, len(events), err)
					}
				}
			})
		})
	}
}

// naive is a map of objects that answers as a View must.
type naive map[string]object.Object

func (n naive) list(ok func(object.Object) bool) string {
	var paths []string
	for p := range n {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var out []string
	for _, p := range paths {
		if ok(n[p]) {
			out = append(out, n[p].GetNamespace()+"/"+n[p].GetName())
		}
	}
	return strings.Join(out, " ")
}

// alike counts the pods of a namespace, or of an owner, one by one.
func (n naive) alike(namespace string, owner types.UID) string {
	counts := map[string]int{}
	for _, o := range n {
		if o.GetNamespace() != namespace {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(o); owner == "" || ref != nil && ref.UID == owner {
			counts[object.SortOf(o.(*corev1.Pod))]++
		}
	}
	return fmt.Sprint(counts)
}

// sorts tells how many pods are of each sort, and of an example that is of another sort than it stands for.
func sorts(list iter.Seq[object.Alike]) string {
	counts := map[string]int{}
	for a := range list {
		counts[a.Sort] += a.Pods
		if got := object.SortOf(a.Example); got != a.Sort {
			return a.Sort + " has an example of " + got
		}
	}
	return fmt.Sprint(counts)
}

// An overlay of an overlay answers as one map would.
func TestOverlayEqualsANaiveMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := naive{}
		layers := []*cluster.Overlay{cluster.NewOverlay(cluster.NewOverlay(empty{}))}
		before := naive{}
		top := func() *cluster.Overlay { return layers[len(layers)-1] }
		draw := func() object.Key {
			return object.Key{Resource: "pods", Namespace: rapid.SampledFrom([]string{"d", "d-2", "e"}).Draw(t, "namespace"), Name: rapid.SampledFrom([]string{"a", "a-b", "b", "c"}).Draw(t, "name")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := draw()
				p := pod(k.Namespace, k.Name, rapid.SampledFrom([]string{"", "n1", "n10"}).Draw(t, "node"), rapid.SampledFrom([]string{"", "o1", "o2", "o3"}).Draw(t, "owner"))
				p.Labels = map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label"), "apps.kubernetes.io/pod-index": k.Name}
				p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"", corev1.PodRunning}).Draw(t, "phase")
				p.Spec.Containers = []corev1.Container{{Resources: rapid.SampledFrom(asked()).Draw(t, "asked")}}
				if rapid.Bool().Draw(t, "started") {
					has := rapid.SampledFrom(asked()).Draw(t, "has")
					p.Status.ContainerStatuses = []corev1.ContainerStatus{{Resources: &has}}
				}
				if rapid.Bool().Draw(t, "crosses") {
					p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{Namespaces: []string{"d"}}}}}
				}
				if claim := rapid.SampledFrom([]string{"", "c1", "c2"}).Draw(t, "claim"); claim != "" {
					p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
				}
				if rapid.Bool().Draw(t, "ready") {
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
				top().Put(p)
				m[k.Path()] = p
			},
			"delete": func(*rapid.T) {
				k := draw()
				top().Delete(k)
				delete(m, k.Path())
			},
			"stack": func(*rapid.T) {
				if len(layers) < 5 {
					layers = append(layers, cluster.NewOverlay(top()))
					before = naive{}
					for k, o := range m {
						before[k] = o
					}
				}
			},
			// What is read seldom may have left its row and come back meanwhile.
			"look": func(t *rapid.T) {
				got, want := names(top().PodsOn("n10")), m.list(func(p object.Object) bool { return p.(*corev1.Pod).Spec.NodeName == "n10" })
				if got != want {
					t.Fatalf("on n10: %s, want %s", got, want)
				}
			},
			"": func(t *rapid.T) {
				o := top()
				same := func(what, got, want string) {
					if got != want {
						t.Fatalf("%s: %s, want %s", what, got, want)
					}
				}
				same("all", names(o.List("pods", "")), m.list(func(object.Object) bool { return true }))
				same("d", names(o.List("pods", "d")), m.list(func(p object.Object) bool { return p.GetNamespace() == "d" }))
				same("orphans of d", names(o.Orphans("pods", "d")), m.list(func(p object.Object) bool {
					return p.GetNamespace() == "d" && metav1.GetControllerOfNoCopy(p) == nil
				}))
				same("owned", names(o.Owned("o1")), m.list(func(p object.Object) bool {
					return len(p.GetOwnerReferences()) > 0 && p.GetOwnerReferences()[0].UID == "o1"
				}))
				same("on n1", names(o.PodsOn("n1")), m.list(func(p object.Object) bool { return p.(*corev1.Pod).Spec.NodeName == "n1" }))
				same("alike", sorts(o.Alike("d", "o1")), m.alike("d", "o1"))
				same("alike in d", sorts(o.Alike("d", "")), m.alike("d", ""))
				same("users of c1", names(o.Indexed(object.UsersOf("d", "c1"))), m.list(func(p object.Object) bool {
					return p.GetNamespace() == "d" && len(p.(*corev1.Pod).Spec.Volumes) > 0 && p.(*corev1.Pod).Spec.Volumes[0].PersistentVolumeClaim.ClaimName == "c1"
				}))
				applied := cluster.NewOverlay(o.Base())
				applied.Apply(o.Changes())
				same("applied", names(applied.List("pods", "")), names(o.List("pods", "")))
				same("alike, applied", sorts(applied.Alike("d", "")), sorts(o.Alike("d", "")))
				same("unbound", names(o.Unbound()), m.list(func(p object.Object) bool { return p.(*corev1.Pod).Spec.NodeName == "" }))
				checkChanges(t, o, before, m, len(layers) > 1)
			},
		})
	})
}

// checkChanges takes the changes back and expects the state before.
func checkChanges(t *rapid.T, o *cluster.Overlay, before, after naive, stacked bool) {
	if !stacked {
		return
	}
	was := naive{}
	for k, obj := range after {
		was[k] = obj
	}
	for _, c := range o.Changes() {
		if c.Old == nil {
			delete(was, c.Key.Path())
		} else {
			was[c.Key.Path()] = c.Old
		}
	}
	all := func(object.Object) bool { return true }
	if got, want := was.list(all), before.list(all); got != want {
		t.Fatalf("the changes taken back give %s, want %s", got, want)
	}
}

// asked are what a container may ask for: twice the same number, written in two ways.
func asked() []corev1.ResourceRequirements {
	var out []corev1.ResourceRequirements
	for _, q := range []string{"", "1", "1000m", "1Ki", "1024"} {
		r := corev1.ResourceRequirements{}
		if q != "" {
			r.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
		}
		out = append(out, r, corev1.ResourceRequirements{Limits: r.Requests})
	}
	return out
}

// empty is a state without objects.
type empty struct{}

func (empty) Rev() uint64                              { return 0 }
func (empty) Get(object.Key) (object.Object, bool)     { return nil, false }
func (empty) List(_, _ string) iter.Seq[object.Object] { return func(func(object.Object) bool) {} }
func (empty) Owned(types.UID) iter.Seq[object.Object]  { return func(func(object.Object) bool) {} }
func (empty) PodsOn(string) iter.Seq[*corev1.Pod]      { return func(func(*corev1.Pod) bool) {} }
func (empty) Orphans(_, _ string) iter.Seq[object.Object] {
	return func(func(object.Object) bool) {}
}
func (empty) CountNodes(object.Row) int { return 0 }
func (empty) Alike(string, types.UID) iter.Seq[object.Alike] {
	return func(func(object.Alike) bool) {}
}
func (empty) Indexed(object.Row) iter.Seq[object.Object] { return func(func(object.Object) bool) {} }
func (empty) Unbound() iter.Seq[*corev1.Pod]             { return func(func(*corev1.Pod) bool) {} }
