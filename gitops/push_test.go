package gitops

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"

	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/plan"
)

// TestPushLargeIsStaged pushes a pack over 256 KiB: the store then holds a digest, and a new server replays the blob.
func TestPushLargeIsStaged(t *testing.T) {
	w := newWorld(t)
	noise := make([]byte, 400<<10)
	rand.New(rand.NewSource(1)).Read(noise)
	files := map[string]string{"a.yaml": configMap("a", "1")}
	for i := range 40 {
		files[fmt.Sprintf("data/%d.bin", i)] = string(noise[i*10240 : (i+1)*10240])
	}
	w.commit(files)
	w.git("push", "cluster", "main")
	value, ok := kv{w.store}.View().Get(git.PackKey(1))
	if !ok || len(value) > 200 {
		t.Fatalf("the pack's key holds %d bytes, want a digest", len(value))
	}
	repo, err := git.Open(git.Config{Store: kv{w.store}})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := repo.Sync(t.Context())
	if err != nil || snap.Refs[git.MainRef].String() != strings.TrimSpace(w.git("rev-parse", "HEAD")) {
		t.Errorf("replay: %v, err %v", snap, err)
	}
}

// TestConcurrentFolders applies different folders at once: all are taken one after the other or told to be stale, and the
// ledger holds one row for each that was taken.
func TestConcurrentFolders(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	results := make([]PlanResponse, 6)
	for i := range results {
		wg.Go(func() {
			var err error
			req := PlanRequest{Files: []File{{Path: "a.yaml", Data: []byte(configMap("a", fmt.Sprint(i)))}}}
			if results[i], err = w.svc.Apply(t.Context(), "admin", req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	taken := 0
	for _, r := range results {
		switch {
		case r.Commit != "":
			taken++
			if _, ok := w.get(object.Key{Resource: "commits", Name: r.Commit}); !ok {
				t.Errorf("no row for %s", r.Commit)
			}
		case !strings.HasPrefix(r.Refused, "stale"):
			t.Errorf("neither taken nor stale: %+v", r)
		}
	}
	if taken == 0 {
		t.Error("none was taken")
	}
}

// TestPlanIsTheTruth compares a preview with what the push then commits: token, placements and rules are the same.
func TestPlanIsTheTruth(t *testing.T) {
	w := newWorld(t)
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: 80}]\n"
	req := PlanRequest{Files: []File{{Path: "web.yaml", Data: []byte(deployment("web", 3))}, {Path: "svc.yaml", Data: []byte(service)}}}
	before, err := w.svc.Plan(t.Context(), "admin", req)
	if err != nil {
		t.Fatal(err)
	}
	after, err := w.svc.Apply(t.Context(), "admin", req)
	if err != nil {
		t.Fatal(err)
	}
	if string(before.Plan) != string(after.Plan) {
		t.Errorf("the plan\n%s\nis not what was done\n%s", before.Plan, after.Plan)
	}
	var p plan.Plan
	if err := json.Unmarshal(after.Plan, &p); err != nil {
		t.Fatal(err)
	}
	for _, placed := range p.Placements {
		for _, each := range placed.Each {
			if _, ok := w.get(each.Pod); !ok {
				t.Errorf("planned pod %s does not exist", each.Pod)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct{ option, want string }{
		{"allow-delete=12", ""}, {"allow-delete=x", "want allow-delete=NUMBER"}, {"allow-delete", "not known"}, {"allow-delete=-1", "want"},
		{"plan", ""}, {"wait", ""}, {"wait=90s", ""}, {"wait=2h", "at most an hour"}, {"wait=x", "want wait=DURATION"}, {"rm -rf", "known are"},
	} {
		_, err := parseOptions([]string{tc.option})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.option, err, tc.want)
		}
	}
}

// TestPushWaits follows the commit to the end of what the controllers say. The world has no node agent, so that a ConfigMap,
// which is current at once, is what can become healthy.
func TestPushWaits(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"a.yaml": configMap("a", "1")})
	if out := w.git("push", "-o", "wait=20s", "cluster", "main"); !strings.Contains(out, "healthy: 1 of 1 objects current") {
		t.Errorf("push -o wait:\n%s", out)
	}
	w.commit(map[string]string{"web.yaml": deployment("web", 1)})
	if out := w.git("push", "-o", "wait=300ms", "cluster", "main"); !strings.Contains(out, "Not healthy after 300ms") {
		t.Errorf("push -o wait of what does not become healthy:\n%s", out)
	}
}

// BenchmarkPush10k measures a push of one changed file on a repository of 10,000 manifests, the git client included.
func BenchmarkPush10k(b *testing.B) {
	w := newWorld(b)
	files := map[string]string{}
	for i := range 10_000 {
		files[fmt.Sprintf("d%d/c%d.yaml", i%100, i)] = configMap(fmt.Sprintf("c%d", i), "x")
	}
	w.commit(files)
	w.git("push", "cluster", "main")
	n := 0
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		n++
		w.commit(map[string]string{"d0/c0.yaml": configMap("c0", fmt.Sprint(n))})
		b.StartTimer()
		w.git("push", "cluster", "main")
	}
}
