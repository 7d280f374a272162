package gitops

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/needs"
	"reconcile/manifests"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// TestConfigFaults: all that is missing is told, in the same order each time.
func TestConfigFaults(t *testing.T) {
	const want = "configure gitops: Cluster is missing\nStore is missing\nState is missing\nWriter is missing\nLoader is missing\nNow is missing"
	for range 20 {
		if err := (&Config{}).Validate(); err == nil || err.Error() != want {
			t.Fatalf("of an empty Config it says %v", err)
		}
	}
}

// TestMain lets the test binary be the child that evaluates CUE.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "cue-eval" {
		os.Exit(manifests.EvalMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// kv shows a raftstore to the repository, as the server does.
type kv struct{ s *raftstore.Store }

func (k kv) View() git.View { return kvView{k.s.View()} }

func (k kv) Blob(_ context.Context, digest string) ([]byte, error) { return k.s.Blob(digest) }

type kvView struct{ v *raftstore.View }

func (k kvView) Get(key string) ([]byte, bool) {
	r, ok := k.v.Get(key)
	if !ok {
		return nil, false
	}
	return r.Value, true
}

func (k kvView) Range(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for r := range k.v.Range(prefix) {
			if !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

type state struct{ s *raftstore.Store }

func (s state) View() View { return cluster.NewView(s.s.View()) }

// world is one server with real store, sequencer and controllers, its git endpoint, and a work tree.
type world struct {
	t     testing.TB
	store *raftstore.Store
	seq   *sequencer.Sequencer
	svc   *Service
	url   string
	dir   string
	// log is what gitops and the sequencer log.
	log *logBuffer
}

// logBuffer keeps log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

// Write implements io.Writer.
func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// of are the messages of the lines that hold text, in order.
func (l *logBuffer) of(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.buf.String()) {
		if _, msg, ok := strings.Cut(line, `msg="`); ok && strings.Contains(line, text) {
			msg, _, _ = strings.Cut(msg, `"`)
			out = append(out, msg)
		}
	}
	return out
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		needs.Missing(t, "needs the git client: apt-get install git")
	}
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	services, pods := netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")
	set, err := controller.NewSet(controller.Config{ClusterID: "test", ServiceRange: services, PodRange: pods, AdmitPod: admission.AdmitPod[controller.View]})
	if err != nil {
		t.Fatal(err)
	}
	lines := &logBuffer{}
	logger := slog.New(slog.NewTextHandler(lines, nil))
	seq, err := sequencer.New(sequencer.Config{Store: store, Settler: sequencer.Controllers{Set: set}, Ranges: admission.Ranges{Services: services},
		Token: Token, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := seq.Run(ctx); err != nil {
			t.Errorf("run the sequencer: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	child, err := manifests.NewChild()
	if err != nil {
		t.Fatal(err)
	}
	loader, err := manifests.NewLoader(manifests.Config{Evaluator: child})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := New(Config{Cluster: "test", Store: kv{store}, State: state{store}, Writer: seq, Loader: loader, Now: time.Now, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, seq: seq, svc: svc, dir: t.TempDir(), log: lines}
	srv := httptest.NewServer(w.handler())
	t.Cleanup(srv.Close)
	w.url = srv.URL
	// The controllers make the preset namespaces too; whoever comes first.
	if _, err := seq.Submit(ctx, sequencer.Request{Ops: []sequencer.Op{create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})}}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	w.must(create(readyNode("n1")))
	w.git("init", "-q", "-b", "main")
	w.git("remote", "add", "cluster", w.url)
	return w
}

func readyNode(name string) *corev1.Node {
	res := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Capacity: res, Allocatable: res, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}}}
}

func create(o object.Object) sequencer.Op {
	admission.Default(o)
	return sequencer.Op{Verb: sequencer.Create, Key: object.KeyOf(o), Object: o}
}

func (w *world) must(ops ...sequencer.Op) {
	w.t.Helper()
	if _, err := w.seq.Submit(context.Background(), sequencer.Request{User: "test", Ops: ops}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info/refs", func(rw http.ResponseWriter, r *http.Request) {
		service := r.URL.Query().Get("service")
		rw.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
		if err := w.svc.AdvertiseRefs(r.Context(), service, rw); err != nil {
			w.t.Error(err)
		}
	})
	mux.HandleFunc("POST /git-receive-pack", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-git-receive-pack-result")
		if err := w.svc.ReceivePack(r.Context(), "admin", r.Body, rw); err != nil {
			w.t.Error(err)
		}
	})
	mux.HandleFunc("POST /git-upload-pack", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		if err := w.svc.UploadPack(r.Context(), r.Body, rw); err != nil {
			w.t.Error(err)
		}
	})
	return mux
}

func (w *world) try(args ...string) (string, bool) {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_CONFIG_NOSYSTEM=1", "HOME="+w.dir, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	out, ok := w.try(args...)
	if !ok {
		w.t.Fatalf("git %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// commit writes files (an empty content removes one) and commits.
func (w *world) commit(files map[string]string) {
	w.t.Helper()
	for name, content := range files {
		p := filepath.Join(w.dir, name)
		if content == "" {
			if err := os.Remove(p); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("add", "-A")
	w.git("commit", "-qm", "change", "--allow-empty")
}

func (w *world) refused(want string, args ...string) string {
	w.t.Helper()
	before := w.store.View().Rev()
	out, ok := w.try(args...)
	if ok || !strings.Contains(out, want) {
		w.t.Fatalf("git %s: success %v, want a failure with %q:\n%s", strings.Join(args, " "), ok, want, out)
	}
	for r := range w.store.View().Range("/git/") {
		if r.ModRev > before {
			w.t.Errorf("a refused push wrote %s", r.Key)
		}
	}
	return out
}

func (w *world) get(key object.Key) (object.Object, bool) {
	return cluster.NewView(w.store.View()).Get(key)
}

func deployment(name string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: %[2]d
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      containers:
      - name: main
        image: %[1]s:v1
`, name, replicas)
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {k: %q}\n", name, value)
}

var webKey = object.Key{Resource: "deployments", Namespace: "default", Name: "web"}

func TestPushDeploys(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"web.yaml": deployment("web", 3)})
	preview := w.git("push", "cluster", "HEAD:refs/plan/main")
	if !strings.Contains(preview, "deployment") || !strings.Contains(preview, "nothing was changed") {
		t.Errorf("preview:\n%s", preview)
	}
	if _, ok := w.get(webKey); ok {
		t.Fatal("a preview made the object")
	}
	out := w.git("push", "cluster", "main")
	t.Log(out)
	if !strings.Contains(out, "Committed ") {
		t.Errorf("push:\n%s", out)
	}
	o, ok := w.get(webKey)
	if !ok {
		t.Fatal("no deployment")
	}
	head := strings.TrimSpace(w.git("rev-parse", "HEAD"))
	if owner, _ := admission.GitOwner(o); owner != (admission.Owner{Source: "cluster", Commit: head, File: "web.yaml:1"}) {
		t.Errorf("owner %+v", owner)
	}
	want := []string{"commit received", "commit validated", "commit planned", "entry committed", "commit committed"}
	if got := w.log.of("commit=" + head[:12]); !slices.Equal(got, want) {
		t.Errorf("the log of the push says %q, want %q; the preview says nothing", got, want)
	}
	pods := 0
	for range cluster.NewView(w.store.View()).List("pods", "default") {
		pods++
	}
	if pods != 3 {
		t.Errorf("%d pods, want 3: the cascade belongs to the push", pods)
	}
	row, ok := w.get(object.Key{Resource: "commits", Name: head})
	if !ok || row.(*object.Commit).Spec.Created != 1 || len(row.(*object.Commit).Spec.Objects) != 1 {
		t.Errorf("ledger %+v", row)
	}
	spec := row.(*object.Commit).Spec
	if spec.Validated.Time.Before(spec.Received.Time) || spec.Planned.Time.Before(spec.Validated.Time) || row.(*object.Commit).Status.Committed.Time.Before(spec.Planned.Time) {
		t.Errorf("the times of the commit are not in order: %+v", row)
	}

	w.commit(map[string]string{"web.yaml": deployment("web", 5)})
	out = w.git("push", "cluster", "main")
	if !strings.Contains(out, "replicas") || !strings.Contains(out, "5") {
		t.Errorf("the plan of a change:\n%s", out)
	}
	w.git("revert", "--no-edit", "HEAD")
	w.git("push", "cluster", "main")
	o, _ = w.get(webKey)
	if n := *o.(*appsv1.Deployment).Spec.Replicas; n != 3 {
		t.Errorf("after the revert %d replicas", n)
	}
	pos, err := w.svc.Blame(head, "web.yaml:1", "spec.template.spec.containers[0].image")
	if err != nil || pos.String() != "web.yaml:15:16" {
		t.Errorf("blame %v, err %v", pos, err)
	}
}

func TestPushWithMistakesChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"a.yaml": configMap("a", "1")})
	w.git("push", "cluster", "main")
	w.commit(map[string]string{
		"a.yaml":  configMap("a", "2"),
		"b.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndatta: {}\n",
		"ns.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: nowhere}\n",
		"c.cue":   "package c\nx: 1 & 2\n",
	})
	out := w.refused("2 mistakes; nothing was changed", "push", "cluster", "main")
	for _, want := range []string{`remote: b.yaml:4:1: unknown field "datta"`, "remote: c.cue:2:4: x: conflicting values "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	w.commit(map[string]string{"b.yaml": configMap("b", "1"), "c.cue": ""})
	w.refused(`ns.yaml:3:32: metadata.namespace: namespace "nowhere" does not exist`, "push", "cluster", "main")
	w.commit(map[string]string{"n.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: nowhere}\n"})
	w.git("push", "cluster", "main")
	w.commit(map[string]string{"web.yaml": deployment("web", 1)})
	w.git("push", "cluster", "main")
	// What may not change after it was made is a finding at its field.
	w.commit(map[string]string{"web.yaml": strings.ReplaceAll(deployment("web", 1), "{app: web}", "{app: web, tier: x}")})
	w.refused("web.yaml:7:3: spec.selector: Invalid value", "push", "cluster", "main")
}

func TestPruneAndItsGuard(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{}
	for i := range 12 {
		files[fmt.Sprintf("cm/%d.yaml", i)] = configMap(fmt.Sprintf("c%d", i), "x")
	}
	w.commit(files)
	w.git("push", "cluster", "main")
	// A moved file deletes nothing.
	w.git("mv", "cm/0.yaml", "moved.yaml")
	w.commit(nil)
	w.git("push", "cluster", "main")
	if _, ok := w.get(object.Key{Resource: "configmaps", Namespace: "default", Name: "c0"}); !ok {
		t.Error("a moved file deleted its object")
	}
	w.commit(map[string]string{"cm/1.yaml": ""})
	w.git("push", "cluster", "main")
	if _, ok := w.get(object.Key{Resource: "configmaps", Namespace: "default", Name: "c1"}); ok {
		t.Error("what left git is still there")
	}
	w.git("rm", "-rq", ".")
	w.commit(nil)
	for _, push := range [][]string{{"push", "cluster", "main"}, {"push", "cluster", "HEAD:refs/plan/main"}} {
		out := w.refused("push with -o allow-delete=11", push...)
		if strings.Count(out, "remote: - configmap/default/c") != 11 || !strings.Contains(out, "Plan: 0 to create, 0 to change, 11 to delete.") {
			t.Errorf("a refused push does not say what it would delete:\n%s", out)
		}
	}
	for what, do := range map[string]func(context.Context, string, PlanRequest) (PlanResponse, error){"plan": w.svc.Plan, "diff": w.svc.Diff, "apply": w.svc.Apply} {
		res, err := do(t.Context(), "admin", PlanRequest{})
		if err != nil || !strings.HasSuffix(res.Refused, "if that is meant, say --option allow-delete=11") || res.Token != "" || res.Commit != "" {
			t.Errorf("%s: %+v, err %v; want a refusal without a token", what, res, err)
		}
		if strings.Count(res.Text, "- configmap/default/c") != 11 || len(res.Plan) == 0 || (what == "diff") != strings.Contains(res.Diff, "configmap/default/c2") {
			t.Errorf("a refused %s does not show what it would delete: %+v", what, res)
		}
	}
	w.git("push", "-o", "allow-delete=11", "cluster", "main")
	for o := range cluster.NewView(w.store.View()).List("configmaps", "default") {
		if strings.HasPrefix(o.GetName(), "c") {
			t.Errorf("%s is still there", o.GetName())
		}
	}
}

func TestAdoptionAndOtherSources(t *testing.T) {
	w := newWorld(t)
	mine := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}, Data: map[string]string{"k": "old", "other": "kept"}}
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "theirs"}}
	if err := admission.SetGitOwned(theirs, admission.Owner{Source: "elsewhere", Commit: "c", File: "f.yaml:1"}, []byte(`{}`), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.must(create(mine), create(theirs))
	w.commit(map[string]string{"mine.yaml": configMap("mine", "new")})
	if out := w.git("push", "cluster", "main"); !strings.Contains(out, "adopt") {
		t.Errorf("adoption is not told:\n%s", out)
	}
	o, _ := w.get(object.KeyOf(mine))
	if got := o.(*corev1.ConfigMap).Data; got["k"] != "new" || got["other"] != "kept" {
		t.Errorf("data %v", got)
	}
	w.commit(map[string]string{"theirs.yaml": configMap("theirs", "new")})
	w.refused(`theirs.yaml:1:1: configmap/default/theirs belongs to git source "elsewhere"`, "push", "cluster", "main")
}

// TestPresetNamespaceIsReleased: what no cluster can be without stays when its document goes, and is git's no longer.
func TestPresetNamespaceIsReleased(t *testing.T) {
	w := newWorld(t)
	const doc = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n  labels: {team: a}\n"
	w.commit(map[string]string{"ns.yaml": doc, "a.yaml": configMap("a", "1")})
	w.git("push", "cluster", "main")
	key := object.Key{Resource: "namespaces", Name: "default"}
	if o, _ := w.get(key); o.GetLabels()["team"] != "a" {
		t.Fatalf("not adopted: %v", o)
	}
	w.commit(map[string]string{"ns.yaml": ""})
	out := w.git("push", "cluster", "main")
	if !strings.Contains(out, "namespace/default may not be deleted: it stays, and git no longer owns it") {
		t.Errorf("push:\n%s", out)
	}
	o, ok := w.get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		t.Fatalf("namespace default: %v", o)
	}
	if _, owned := admission.GitOwner(o); owned || o.GetLabels()["team"] != "" || len(admission.GitFields(o)) > 0 || o.GetLabels()["kubernetes.io/metadata.name"] != "default" {
		t.Errorf("git's part is left, or more than that is gone: %+v", o)
	}
}

func TestOtherBranchesAndOptions(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"web.yaml": deployment("web", 1)})
	if out := w.git("push", "cluster", "HEAD:refs/heads/feature"); !strings.Contains(out, "Only main deploys") {
		t.Errorf("branch:\n%s", out)
	}
	if _, ok := w.get(webKey); ok {
		t.Fatal("a branch deployed")
	}
	w.git("push", "cluster", "HEAD:refs/heads/short")
	if out := w.git("push", "cluster", ":short"); !strings.Contains(out, "Deleted. Nothing that runs was changed.") || strings.Contains(out, "Stored") {
		t.Errorf("the deletion of a branch:\n%s", out)
	}
	w.refused("plan only (-o plan)", "push", "-o", "plan", "cluster", "main")
	w.refused("is not known; known are", "push", "-o", "fast", "cluster", "main")
	w.git("push", "cluster", "main")
	if _, ok := w.get(webKey); !ok {
		t.Error("main did not deploy a commit that a branch had brought")
	}
}

func TestFolderPlanAndApply(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	req := PlanRequest{Files: []File{{Path: "web.yaml", Data: []byte(deployment("web", 2))}}}
	planned, err := w.svc.Plan(ctx, "admin", req)
	if err != nil || !planned.Changes || planned.Token == "" || planned.Commit != "" {
		t.Fatalf("plan %+v, err %v", planned, err)
	}
	if diff, err := w.svc.Diff(ctx, "admin", req); err != nil || !strings.Contains(diff.Diff, "replicas") {
		t.Errorf("diff %+v, err %v", diff, err)
	}
	req.Token = "something-else"
	if got, err := w.svc.Apply(ctx, "admin", req); err != nil || !strings.Contains(got.Refused, "plan again") || got.Commit != "" {
		t.Errorf("apply with a wrong token: %+v, %v, want a refusal", got, err)
	}
	req.Token = planned.Token
	applied, err := w.svc.Apply(ctx, "admin", req)
	if err != nil || applied.Commit == "" {
		t.Fatalf("apply %+v, err %v", applied, err)
	}
	if applied.Token != planned.Token {
		t.Errorf("token %s, planned %s", applied.Token, planned.Token)
	}
	again, err := w.svc.Apply(ctx, "admin", PlanRequest{Files: req.Files})
	if err != nil || again.Changes || again.Commit != "" {
		t.Errorf("apply of the same: %+v, err %v", again, err)
	}
	bad, err := w.svc.Plan(ctx, "admin", PlanRequest{Files: []File{{Path: "x.yaml", Data: []byte("a: b\n")}}})
	if err != nil || len(bad.Findings) != 1 {
		t.Errorf("findings %+v, err %v", bad, err)
	}
	// The applied folder is a commit like any other.
	w.git("pull", "-q", "cluster", "main")
	if _, err := os.Stat(filepath.Join(w.dir, "web.yaml")); err != nil {
		t.Error(err)
	}
}
