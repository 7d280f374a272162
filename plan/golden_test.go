package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// world is a state to plan on.
type world struct {
	t     testing.TB
	state *memview.State
	set   *controller.Set
	now   time.Time
	n     int
}

var serviceRange = netip.MustParsePrefix("10.96.0.0/16")

func newWorld(t testing.TB) *world {
	set, err := controller.NewSet(controller.Config{ClusterID: "test", ServiceRange: serviceRange, PodRange: netip.MustParsePrefix("10.244.0.0/16"), AdmitPod: admission.AdmitPod[controller.View]})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, set: set, state: memview.New(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	controller.Settle(set, w.state, set.Resync(w.state), w.now, 10000, admission.Complete)
	w.state.TakeChanges()
	return w
}

func (w *world) node(name, cpu string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: controller.HashUID(name), CreationTimestamp: metav1.NewTime(w.now)}}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	n.Status.Allocatable = corev1.ResourceList{"cpu": kresource.MustParse(cpu), "memory": kresource.MustParse("64Gi"), "pods": kresource.MustParse("500")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(w.now)}}
	w.state.Put(n)
	controller.Settle(w.set, w.state, w.set.Triggers(w.state, w.state.TakeChanges()), w.now, 10000, admission.Complete)
	w.state.TakeChanges()
}

// ready makes all pods run and be ready.
func (w *world) ready() {
	for range 20 {
		for o := range w.state.List("pods", "") {
			p := object.Copy(o).(*corev1.Pod)
			if p.DeletionTimestamp != nil {
				w.state.Delete(object.KeyOf(p))
				continue
			}
			if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodRunning {
				continue
			}
			w.n++
			p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.244.0.%d", w.n+1)
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)})
			w.state.Put(p)
		}
		controller.Settle(w.set, w.state, w.set.Triggers(w.state, w.state.TakeChanges()), w.now, 10000, admission.Complete)
	}
	w.state.TakeChanges()
}

// tree is a set of documents as a push has them.
type tree map[object.Key]document

type document struct {
	set  []byte
	file string
}

// readTree reads documents, each after a line "# FILE:LINE".
func readTree(t testing.TB, text string) tree {
	out := tree{}
	for _, part := range regexp.MustCompile(`(?m)^# (\S+)\n`).Split(text, -1)[1:] {
		b, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		o, strict, err := admission.DecodeJSON(b)
		if err != nil || len(strict) > 0 {
			t.Fatal(err, strict)
		}
		if k, err := object.KindOfObject(o); err == nil && k.Namespaced && o.GetNamespace() == "" {
			o.SetNamespace("default")
		}
		out[object.KeyOf(o)] = document{set: b}
	}
	files := regexp.MustCompile(`(?m)^# (\S+)\n`).FindAllStringSubmatch(text, -1)
	i := 0
	for _, part := range regexp.MustCompile(`(?m)^# (\S+)\n`).Split(text, -1)[1:] {
		b, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		for k, d := range out {
			if string(d.set) == string(b) {
				d.file = files[i][1]
				out[k] = d
			}
		}
		i++
	}
	return out
}

// decide does to a state what a push of the tree does: the way of gitops and sequencer in small.
func (w *world) decide(s *memview.State, tr tree, commit string, now time.Time) Input {
	base := s.Clone()
	in := Input{Commit: commit, BaseRef: "base", Source: "cluster", Base: base, After: s, Adopted: map[object.Key]bool{}}
	var keys []object.Key
	for k := range tr {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, object.Key.Compare)
	for _, k := range keys {
		w.write(s, k, tr[k], commit, now, &in)
	}
	for _, k := range object.Kinds() {
		for o := range base.List(k.Resource, "") {
			if _, owned := admission.GitOwner(o); !owned {
				continue
			}
			if _, kept := tr[object.KeyOf(o)]; kept {
				continue
			}
			if next, gone := controller.BeginDelete(o, controller.DeleteOptions{}, now); gone {
				s.Delete(object.KeyOf(o))
			} else {
				s.Put(next)
			}
		}
	}
	in.Requested = s.TakeChanges()
	in.Outcome = controller.Settle(w.set, s, w.set.Triggers(s, in.Requested), now, 100000, admission.Complete)
	in.Written = append(slices.Clone(in.Requested), s.TakeChanges()...)
	in.Position = func(k object.Key, path string) (string, int) {
		d := tr[k]
		if path == "" {
			return d.file, 0
		}
		return "", 0
	}
	return in
}

func (w *world) write(s *memview.State, k object.Key, d document, commit string, now time.Time, in *Input) {
	by := admission.Owner{Source: "cluster", Commit: commit, File: d.file}
	live, exists := s.Get(k)
	var o object.Object
	var err error
	if exists {
		if _, owned := admission.GitOwner(live); !owned {
			in.Adopted[k] = true
		}
		if o, err = admission.MergeGit(live, d.set); err != nil {
			w.t.Fatal(err)
		}
		admission.PrepareUpdate(o, live)
	} else {
		if o, _, err = admission.DecodeJSON(d.set); err != nil {
			w.t.Fatal(err)
		}
		o.SetNamespace(k.Namespace)
		admission.Default(o)
		admission.PrepareCreate(o, controller.HashUID("test", k.Path()), now)
	}
	if err := admission.SetGitOwned(o, by, d.set, now); err != nil {
		w.t.Fatal(err)
	}
	var old object.Object
	if exists {
		old = live
	}
	if err := admission.Allocate(s, o, old, admission.Ranges{Services: serviceRange}); err != nil {
		w.t.Fatal(err)
	}
	if errs := admission.Validate(o, old); len(errs) > 0 {
		w.t.Fatal(errs.ToAggregate())
	}
	s.Put(o)
}

// TestGolden plays testdata/golden. Commands: node NAME [cpu=N]; ready (all pods run); store (an object made by kubectl); plan [width=N]
// [colour] [json] [diff] shows the plan of a tree and changes nothing; push commits it, and says so if the plan was another.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			switch d.Cmd {
			case "node":
				cpu := "8"
				if d.HasArg("cpu") {
					d.ScanArgs(t, "cpu", &cpu)
				}
				w.node(d.CmdArgs[0].Key, cpu)
			case "ready":
				w.ready()
			case "store":
				for k, doc := range readTree(t, d.Input) {
					o, _, err := admission.DecodeJSON(doc.set)
					if err != nil {
						t.Fatal(err)
					}
					o.SetNamespace(k.Namespace)
					admission.Default(o)
					admission.PrepareCreate(o, controller.HashUID("kubectl", k.Path()), w.now)
					w.state.Put(o)
				}
				controller.Settle(w.set, w.state, w.set.Triggers(w.state, w.state.TakeChanges()), w.now, 10000, admission.Complete)
				w.state.TakeChanges()
			case "plan":
				return w.show(d)
			case "push":
				return w.push(readTree(t, d.Input))
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return "ok\n"
		})
	})
}

func (w *world) plan(tr tree) *Plan {
	p, err := Build(w.decide(w.state.Clone(), tr, "c0ffee", w.now))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) show(d *datadriven.TestData) string {
	p := w.plan(readTree(w.t, d.Input))
	p.Token = "(token)"
	width := 100
	if d.HasArg("width") {
		d.ScanArgs(w.t, "width", &width)
	}
	switch {
	case d.HasArg("json"):
		b, err := json.MarshalIndent(p, "", " ")
		if err != nil {
			w.t.Fatal(err)
		}
		return string(b) + "\n"
	case d.HasArg("diff"):
		return RenderDiff(p, false)
	}
	text := Render(p, width, d.HasArg("colour"))
	for _, line := range strings.Split(text, "\n") {
		if n := len([]rune(regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, ""))); n > width {
			w.t.Errorf("a line has %d columns of %d: %s", n, width, line)
		}
	}
	if d.HasArg("colour") {
		return strconv.Quote(text) + "\n"
	}
	return strings.ReplaceAll(text, "\n\n", "\n.\n")
}

// push commits a tree at a later time than it was planned, and compares.
func (w *world) push(tr tree) string {
	forecast := w.plan(tr)
	w.now = w.now.Add(7 * time.Second)
	in := w.decide(w.state, tr, "c0ffee", w.now)
	done, err := Build(in)
	if err != nil {
		w.t.Fatal(err)
	}
	if forecast.Token != done.Token || Token(in) != done.Token {
		w.t.Errorf("the forecast has token %s, the commit %s", forecast.Token, done.Token)
	}
	for _, p := range done.Placements {
		for _, e := range p.Each {
			o, ok := w.state.Get(e.Pod)
			if !ok || o.(*corev1.Pod).Spec.NodeName != e.Node {
				w.t.Errorf("%s is not on %s", e.Pod, e.Node)
			}
		}
	}
	w.ready()
	return "ok\n"
}
