package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reconcile/gitops"
	"reconcile/internal/needs"
	"reconcile/manifests"
)

// TestPlanDiffApply runs the three commands against a server that answers what it is told, and looks at requests, output and
// exit codes.
func TestPlanDiffApply(t *testing.T) {
	var got gitops.PlanRequest
	var verb string
	answer := gitops.PlanResponse{Changes: true, Text: "+ x\n", Diff: "-old\n+new\n", Token: "t1", Commit: "0123456789abcdef"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, verb = gitops.PlanRequest{}, strings.TrimPrefix(r.URL.Path, "/reconcile/v1/")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %s}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u}]\ncurrent-context: c\n", srv.URL)
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{config: text, filepath.Join(tree, "a.yaml"): "a", filepath.Join(tree, "sub/b.yaml"): "b"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(wantCode int, wantOut string, args ...string) {
		t.Helper()
		out, err := reconcile(t, append(args, "--kubeconfig", config)...)
		if exitCode(err) != wantCode || !strings.Contains(out, wantOut) {
			t.Errorf("reconcile %v: exit code %d (%v), want %d; output %q, want %q", args, exitCode(err), err, wantCode, out, wantOut)
		}
	}
	file := filepath.Join(dir, "plan.json")
	run(2, "+ x\n", "plan", tree, "--out", file, "--option", "allow-delete=3")
	if verb != "plan" || len(got.Files) != 2 || got.Files[1].Path != "sub/b.yaml" || got.Options[0] != "allow-delete=3" {
		t.Errorf("%s was asked %+v", verb, got)
	}
	run(2, `"token": "t1"`, "plan", tree, "-o", "json")
	run(2, "-old\n+new\n", "diff", tree)
	run(2, `"diff": "-old\n+new\n"`, "diff", tree, "-o", "json")
	run(1, "", "diff", tree, "-o", "yaml")
	run(0, "Committed 0123456.", "apply", "--plan", file)
	if verb != "apply" || got.Token != "t1" || len(got.Files) != 2 {
		t.Errorf("%s was asked %+v", verb, got)
	}
	run(1, "", "apply", tree, "--plan", file)
	run(1, "", "plan", filepath.Join(dir, "nowhere"))
	answer = gitops.PlanResponse{}
	run(0, "Nothing to do.", "plan", tree)
	run(0, "Nothing to do.", "apply", tree)
	answer = gitops.PlanResponse{Findings: []manifests.Finding{{Position: manifests.Position{File: "a.yaml", Line: 1, Col: 2}, Message: "bad"}}}
	for _, verb := range []string{"plan", "diff", "apply"} {
		run(1, "a.yaml:1:2: bad\n", verb, tree)
	}
	run(1, `"message": "bad"`, "plan", tree, "-o", "json")
	answer = gitops.PlanResponse{Refused: "guarded", Changes: true, Text: "- y\n", Plan: []byte(`{"changes":[]}`)}
	file = filepath.Join(dir, "refused.json")
	run(1, "- y\n", "apply", tree)
	run(1, "- y\n", "plan", tree, "--out", file)
	run(1, `"refused": "guarded"`, "plan", tree, "-o", "json")
	if exists(file) {
		t.Error("a refused plan was kept")
	}
	answer.Diff = "-y\n"
	run(1, "-y\n", "diff", tree)
	run(1, `"diff": "-y\n"`, "diff", tree, "-o", "json")
}

// TestPlanOfARevision: a revision is named by its hash, and its objects are sent when the cluster wants them, without what main has.
func TestPlanOfARevision(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		needs.Missing(t, "git is not installed")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	git(t, dir, "init", "-q", "-b", "main")
	commit := func(name string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "add", "-A")
		git(t, dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name)
		return git(t, dir, "rev-parse", "HEAD")
	}
	first, second := commit("one"), commit("two")
	var asked []gitops.PlanRequest
	main := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req gitops.PlanRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		asked = append(asked, req)
		res := gitops.PlanResponse{Changes: true, Text: "+ x\n", Token: "t1", Note: "a note"}
		if len(req.Pack) == 0 {
			res = gitops.PlanResponse{Wanted: true, Main: main}
		}
		if err := json.NewEncoder(w).Encode(res); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %s}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u}]\ncurrent-context: c\n", srv.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		main, rev, want string
		objects         uint32
	}{
		"the first push":     {"", "HEAD", second, 6}, // two commits, two trees, two files
		"one ahead":          {first, "main", second, 3},
		"main is not here":   {strings.Repeat("1", 40), "HEAD", second, 6},
		"an earlier one":     {"", "HEAD~1", first, 3},
		"shortened, as text": {first, second[:8], second, 3},
	} {
		asked, main = nil, tc.main
		out, err := reconcile(t, "plan", tc.rev, "--kubeconfig", config, "--out", filepath.Join(dir, "plan.json"))
		if exitCode(err) != 2 || out != "+ x\na note\n" || len(asked) != 2 || asked[0].Commit != tc.want || asked[1].Commit != tc.want || len(asked[0].Files) > 0 {
			t.Errorf("%s: %v, output %q, asked %+v", name, err, out, asked)
			continue
		}
		if n := binary.BigEndian.Uint32(asked[1].Pack[8:]); n != tc.objects {
			t.Errorf("%s: the pack has %d objects, want %d", name, n, tc.objects)
		}
		// What was kept is the request that was answered: applying it needs no repository.
		if kept, err := readPlan(filepath.Join(dir, "plan.json")); err != nil || !bytes.Equal(kept.Pack, asked[1].Pack) || kept.Token != "t1" {
			t.Errorf("%s: kept %+v, %v", name, kept, err)
		}
	}
	if out, err := reconcile(t, "plan", "no-such-branch", "--kubeconfig", config); exitCode(err) != 1 || !strings.Contains(fmt.Sprint(err), "no such revision") {
		t.Errorf("plan of nothing: %v\n%s", err, out)
	}
}
