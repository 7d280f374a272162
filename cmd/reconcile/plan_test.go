package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reconcile/gitops"
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
	answer = gitops.PlanResponse{Refused: "guarded"}
	run(1, "", "apply", tree)
}
