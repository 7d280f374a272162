package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"pgregory.net/rapid"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/proxy/model"
)

// drawTree draws the manifests of a commit.
func drawTree(t *rapid.T) string {
	var b strings.Builder
	b.WriteString("# always.yaml:1\n{apiVersion: v1, kind: ConfigMap, metadata: {name: always}}\n")
	for _, app := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, "apps") {
		strategy := rapid.SampledFrom([]string{"", "strategy: {type: Recreate}, ", "strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}, "}).Draw(t, "strategy")
		cpu := rapid.SampledFrom([]string{"10m", "500m"}).Draw(t, "cpu")
		fmt.Fprintf(&b, "# %s.yaml:1\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s}, spec: {%sreplicas: %d, selector: {matchLabels: {app: %s}}, "+
			"template: {metadata: {labels: {app: %s}}, spec: {containers: [{name: c, image: v%d, resources: {requests: {cpu: %s}}}]}}}}\n",
			app, app, strategy, rapid.IntRange(0, 8).Draw(t, "replicas"), app, app, rapid.IntRange(1, 3).Draw(t, "image"), cpu)
		if rapid.Bool().Draw(t, "service") {
			fmt.Fprintf(&b, "# %s.yaml:9\n{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {selector: {app: %s}, ports: [{port: %d}]}}\n",
				app, app, app, rapid.IntRange(80, 82).Draw(t, "port"))
		}
	}
	return b.String()
}

// TestForecast plays random commits: the plan made before is the plan of the commit, made later, to the token; the pods of its
// placements are where it said; and when all is ready the rules have the endpoints that it expected.
func TestForecast(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		for i := range rapid.IntRange(1, 4).Draw(rt, "nodes") {
			w.node(fmt.Sprintf("n%d", i), "64")
		}
		for i := range rapid.IntRange(1, 5).Draw(rt, "commits") {
			tr := readTree(t, drawTree(rt))
			commit := fmt.Sprintf("commit%d", i)
			forecast, err := Build(w.decide(w.state.Clone(), tr, commit, w.now))
			if err != nil {
				rt.Fatal(err)
			}
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "later")) * time.Millisecond)
			if stopsPods(forecast) {
				// Which pods go is by Kubernetes' rule, in which time has a part: the order of magnitude of their ages. A plan that
				// stops pods holds for its moment; applied when another pod's turn has come, it is refused by its token.
				if forecast, err = Build(w.decide(w.state.Clone(), tr, commit, w.now)); err != nil {
					rt.Fatal(err)
				}
			}
			done, err := Build(w.decide(w.state, tr, commit, w.now))
			if err != nil {
				rt.Fatal(err)
			}
			if a, b := Render(forecast, 0, false), Render(done, 0, false); a != b || forecast.Token != done.Token {
				rt.Fatalf("the forecast %s\n%s\nis not the commit %s\n%s", forecast.Token, a, done.Token, b)
			}
			for _, p := range forecast.Placements {
				for _, e := range p.Each {
					if o, ok := w.state.Get(e.Pod); !ok || o.(*corev1.Pod).Spec.NodeName != e.Node {
						rt.Fatalf("%s is not on %s as planned", e.Pod, e.Node)
					}
				}
			}
			w.ready()
			have := rulesNow(w.state)
			for _, r := range forecast.Rules {
				n, ok := have[r.Service.String()+" "+r.Address]
				if ok == (r.Verb == VerbDelete) || ok && n != r.Expected {
					rt.Fatalf("rule %+v came to %d endpoints (%v)\n%s", r, n, ok, Render(forecast, 0, false))
				}
			}
			if again, err := Build(w.decide(w.state.Clone(), tr, commit, w.now)); err != nil || !again.Empty() || len(again.Rules)+len(again.Placements) > 0 {
				rt.Fatalf("the same tree once more is not nothing (%v):\n%s", err, Render(again, 0, false))
			}
		}
	})
}

func stopsPods(p *Plan) bool {
	return slices.ContainsFunc(p.Cascade, func(c Cascade) bool { return c.Resource == "pods" && c.Deleted > 0 })
}

func rulesNow(v controller.View) map[string]int {
	var svcs []*corev1.Service
	var parts []*discoveryv1.EndpointSlice
	for o := range v.List("services", "") {
		svcs = append(svcs, o.(*corev1.Service))
	}
	for o := range v.List("endpointslices", "") {
		parts = append(parts, o.(*discoveryv1.EndpointSlice))
	}
	out := map[string]int{}
	for _, r := range model.Rules(svcs, parts) {
		k := object.Key{Resource: "services", Namespace: r.Namespace, Name: r.Service}
		out[k.String()+" "+r.Frontend] = len(r.Backends)
	}
	return out
}

// TestTokenSees holds that each part of what was decided is in the token.
func TestTokenSees(t *testing.T) {
	const base = "# a.yaml:1\n{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: one}}\n" +
		"# b.yaml:1\n{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: x}]}}\n"
	w := newWorld(t)
	w.node("n1", "4")
	plain := w.plan(readTree(t, base))
	if plain.Token != w.plan(readTree(t, base)).Token || len(plain.Token) != 64 {
		t.Fatalf("the same plan has two tokens, or none: %q", plain.Token)
	}
	if other := w.plan(readTree(t, strings.Replace(base, "one", "two", 1))); other.Token == plain.Token {
		t.Error("a Secret's value is not in the token")
	}
	if other := w.plan(readTree(t, strings.Replace(base, "image: x", "image: z", 1))); other.Token == plain.Token {
		t.Error("an image is not in the token")
	}
	in := w.decide(w.state.Clone(), readTree(t, base), "c0ffee", w.now)
	in.Outcome.Placements[0].Node = "elsewhere"
	if Token(in) == plain.Token {
		t.Error("a placement is not in the token")
	}
	in = w.decide(w.state.Clone(), readTree(t, base), "other", w.now)
	if Token(in) == plain.Token {
		t.Error("the commit is not in the token")
	}
	if text := Render(plain, 0, false) + RenderDiff(plain, false); strings.Contains(text, "one") || strings.Contains(text, "b25l") {
		t.Error("a Secret's value is shown")
	}
}

func TestGuard(t *testing.T) {
	keys := func(n int, more ...object.Key) []object.Key {
		out := more
		for i := len(more); i < n; i++ {
			out = append(out, object.Key{Resource: "configmaps", Namespace: "default", Name: fmt.Sprint(i)})
		}
		return out
	}
	ns := object.Key{Resource: "namespaces", Name: "team"}
	for _, tc := range []struct {
		name string
		g    Guard
		want string
	}{
		{"few", Guard{Owned: 12, Wanted: 2, Deleted: keys(10)}, ""},
		{"many of very many", Guard{Owned: 100, Wanted: 80, Deleted: keys(20)}, ""},
		{"more than 10 and 20 %", Guard{Owned: 100, Wanted: 79, Deleted: keys(21)}, "this push would delete 21 objects, and that is 21 % of the 100 objects of this source; if that is meant, push with -o allow-delete=21"},
		{"allowed", Guard{Owned: 100, Wanted: 79, Deleted: keys(21), Allowed: 21}, ""},
		{"asked otherwise", Guard{Owned: 100, Wanted: 0, Deleted: keys(2), Way: "say --option"}, "this would delete 2 objects, and the tree holds no object at all; if that is meant, say --option allow-delete=2"},
		{"allowed too few", Guard{Owned: 100, Wanted: 79, Deleted: keys(21), Allowed: 20}, "-o allow-delete=21"},
		{"namespace", Guard{Owned: 100, Wanted: 99, Deleted: keys(1, ns)}, "namespace team and everything in it would go"},
		{"empty tree", Guard{Owned: 2, Deleted: keys(2)}, "the tree holds no object at all"},
		{"empty tree of nothing", Guard{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.g.Check()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestAppliedCopyIsHidden: the copy of itself that kubectl leaves in an annotation of a Secret is shown no more than its data.
func TestAppliedCopyIsHidden(t *testing.T) {
	path := "metadata.annotations[" + corev1.LastAppliedConfigAnnotation + "]"
	for _, tc := range []struct{ resource, path, want string }{
		{"secrets", path, "(changed)"},
		{"secrets", "data.pw", "(changed)"},
		{"secrets", "stringData", "(changed)"},
		{"secrets", "metadata.labels.team", "geheim"},
		{"configmaps", path, "geheim"},
	} {
		if got := text(object.Key{Resource: tc.resource}, tc.path, "geheim"); *got != tc.want {
			t.Errorf("%s of %s is shown as %q, want %q", tc.path, tc.resource, *got, tc.want)
		}
	}
}
