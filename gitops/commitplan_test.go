package gitops

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/cluster"
	"reconcile/plan"
)

// ask plans or applies HEAD as the command line does: by name first, then with what the server lacks.
func (w *world) ask(do func(PlanRequest) (PlanResponse, error), req PlanRequest) PlanResponse {
	w.t.Helper()
	req.Commit = strings.TrimSpace(w.git("rev-parse", "HEAD"))
	res, err := do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if !res.Wanted {
		return res
	}
	wanted := req.Commit + "\n"
	if res.Main != "" {
		wanted += "^" + res.Main + "\n"
	}
	cmd := exec.Command("git", "pack-objects", "--revs", "--thin", "--stdout", "-q")
	cmd.Dir, cmd.Stdin = w.dir, strings.NewReader(wanted)
	if req.Pack, err = cmd.Output(); err != nil {
		w.t.Fatal(err)
	}
	if res, err = do(req); err != nil {
		w.t.Fatal(err)
	}
	return res
}

func (w *world) plan(req PlanRequest) (PlanResponse, error) {
	return w.svc.Plan(w.t.Context(), "admin", req)
}

func (w *world) apply(req PlanRequest) (PlanResponse, error) {
	return w.svc.Apply(w.t.Context(), "admin", req)
}

// foretold are the pods that a plan names.
func foretold(t *testing.T, res PlanResponse) []string {
	t.Helper()
	var p plan.Plan
	if err := json.Unmarshal(res.Plan, &p); err != nil {
		t.Fatalf("%v: %+v", err, res)
	}
	var out []string
	for _, placed := range p.Placements {
		for _, each := range placed.Each {
			out = append(out, each.Pod.Name+" on "+each.Node)
		}
	}
	slices.Sort(out)
	return out
}

// pods are those that are.
func (w *world) pods() []string {
	var out []string
	for o := range cluster.NewView(w.store.View()).List("pods", "") {
		p := o.(*corev1.Pod)
		out = append(out, p.Name+" on "+p.Spec.NodeName)
	}
	slices.Sort(out)
	return out
}

// TestPlanOfACommitNamesItsPods: the plan of a revision is that of the very commit which a push then brings, so that pods have the
// names that it foretold; also some commits ahead of main, and for the first push.
func TestPlanOfACommitNamesItsPods(t *testing.T) {
	w := newWorld(t)
	for _, files := range []map[string]string{
		{"web.yaml": deployment("web", 3)},
		{"web.yaml": deployment("web", 3), "api.yaml": deployment("api", 2)},
	} {
		w.commit(map[string]string{"cm.yaml": configMap("cm", "older")})
		w.commit(files)
		planned := w.ask(w.plan, PlanRequest{})
		if !planned.Changes || planned.Note != "" {
			t.Fatalf("plan %+v", planned)
		}
		before := w.pods()
		w.git("push", "-q", "cluster", "HEAD:main")
		var fresh []string
		for _, p := range w.pods() {
			if !slices.Contains(before, p) {
				fresh = append(fresh, p)
			}
		}
		if want := foretold(t, planned); len(want) == 0 || !slices.Equal(want, fresh) {
			t.Errorf("the plan foretold %v, the push made %v", want, fresh)
		}
	}
	// What main has needs no pack.
	if res := w.ask(w.plan, PlanRequest{}); res.Wanted || res.Changes {
		t.Errorf("plan of what is deployed: %+v", res)
	}
}

// TestApplyOfACommitIsAPush: main moves to the commit itself, and exactly what was planned is done.
func TestApplyOfACommitIsAPush(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"web.yaml": deployment("web", 2)})
	planned := w.ask(w.plan, PlanRequest{})
	if res := w.ask(w.apply, PlanRequest{Token: "another"}); !strings.Contains(res.Refused, "plan again") {
		t.Errorf("apply with a wrong token: %+v", res)
	}
	applied := w.ask(w.apply, PlanRequest{Token: planned.Token})
	if head := strings.TrimSpace(w.git("rev-parse", "HEAD")); applied.Commit != head || !bytes.Equal(applied.Plan, planned.Plan) {
		t.Errorf("applied %+v, want commit %s and the plan %s", applied, head, planned.Plan)
	}
	if got := strings.Fields(w.git("ls-remote", "cluster", "refs/heads/main")); len(got) == 0 || got[0] != applied.Commit {
		t.Errorf("main is %v, want %s", got, applied.Commit)
	}
	if want := foretold(t, planned); !slices.Equal(want, w.pods()) {
		t.Errorf("the plan foretold %v, there are %v", want, w.pods())
	}
	if res := w.ask(w.apply, PlanRequest{}); res.Changes || res.Commit != "" {
		t.Errorf("apply of the same: %+v", res)
	}
}

// TestPlanOfACommitBesideMain: it can be planned, and the answer says that it cannot be pushed; apply refuses it.
func TestPlanOfACommitBesideMain(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"a.yaml": configMap("a", "1")})
	w.git("push", "-q", "cluster", "HEAD:main")
	w.git("commit", "--amend", "-qm", "another")
	w.commit(map[string]string{"b.yaml": configMap("b", "1")})
	if res := w.ask(w.plan, PlanRequest{}); !res.Changes || !strings.Contains(res.Note, "not an ancestor") {
		t.Errorf("plan %+v", res)
	}
	if res := w.ask(w.apply, PlanRequest{}); !strings.Contains(res.Refused, "non-fast-forward") || res.Commit != "" {
		t.Errorf("apply %+v", res)
	}
}

// TestCommitRequestsThatAreWrong are refused with a reason, and change nothing.
func TestCommitRequestsThatAreWrong(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"a.yaml": configMap("a", "1")})
	head := strings.TrimSpace(w.git("rev-parse", "HEAD"))
	blob := strings.TrimSpace(w.git("rev-parse", "HEAD:a.yaml"))
	whole := exec.Command("git", "pack-objects", "--revs", "--stdout", "-q")
	whole.Dir, whole.Stdin = w.dir, strings.NewReader("HEAD\n")
	pack, err := whole.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		req  PlanRequest
		want string
	}{
		"no hash":      {PlanRequest{Commit: "main"}, "40 hex"},
		"both":         {PlanRequest{Commit: head, Files: []File{{Path: "a.yaml"}}}, "either"},
		"a pack alone": {PlanRequest{Pack: pack}, "either"},
		"a file":       {PlanRequest{Commit: blob, Pack: pack}, "not a commit"},
		"not a pack":   {PlanRequest{Commit: head, Pack: []byte("nonsense")}, "pack"},
		"another's":    {PlanRequest{Commit: strings.Repeat("1", 40), Pack: pack}, "missing"},
	} {
		if res, err := w.apply(tc.req); err != nil || !strings.Contains(res.Refused, tc.want) {
			t.Errorf("%s: %+v, %v, want a refusal with %q", name, res, err, tc.want)
		}
	}
}

// TestPlanOfAFolderSaysWhoseNames: the commit of a folder is the server's, and the plan says so.
func TestPlanOfAFolderSaysWhoseNames(t *testing.T) {
	w := newWorld(t)
	res, err := w.plan(PlanRequest{Files: []File{{Path: "web.yaml", Data: []byte(deployment("web", 2))}}})
	if err != nil || !strings.Contains(res.Note, "git push") || !strings.Contains(res.Note, "HEAD:refs/plan/main") {
		t.Errorf("plan %+v, %v", res, err)
	}
	res, err = w.plan(PlanRequest{Files: []File{{Path: "cm.yaml", Data: []byte(configMap("cm", "1"))}}})
	if err != nil || res.Note != "" {
		t.Errorf("a plan without pods: note %q, %v", res.Note, err)
	}
}
