package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// crashes is how often TestCrashDuringPush kills the servers.
const crashes = 20

// pair is what one round pushes: two objects that must come together. Every third round's are so large that the commit is staged in
// pieces before the entry that switches it on.
func pair(round int) map[string]string {
	filler := ""
	if round%3 == 0 {
		// Nothing that git could compress.
		random := rand.New(rand.NewPCG(7, uint64(round)))
		var b strings.Builder
		for range 40_000 {
			fmt.Fprintf(&b, "%016x", random.Uint64())
		}
		filler = b.String()
	}
	config := func(name string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-%d}\ndata: {round: \"%d\", filler: \"%s\"}\n", name, round, round, filler)
	}
	return map[string]string{fmt.Sprintf("left-%d.yaml", round): config("left"), fmt.Sprintf("right-%d.yaml", round): config("right")}
}

// TestCrashDuringPush kills the servers with SIGKILL at random moments of pushes. After each restart a push that git called done is
// there, ref and objects; one that it did not is wholly there or wholly absent; and no container has noticed.
func TestCrashDuringPush(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox"})
	r := m.repo()
	r.write(map[string]string{"web.yaml": strings.ReplaceAll(spread, "replicas: 6", "replicas: 2")})
	r.push("web")
	r.healthy()
	before := running(t, m, "default")

	c := m.client()
	acknowledged, unknown, absent := 0, 0, 0
	// within is how late a kill may come. It follows the machine: longer after a push that was too slow, shorter after one that was done.
	within := 200 * time.Millisecond
	for round := range crashes {
		r.write(pair(round))
		r.git("add", "-A")
		r.git("commit", "-q", "-m", fmt.Sprintf("round %d", round))
		head := strings.TrimSpace(r.git("rev-parse", "HEAD"))
		done := make(chan error, 1)
		out := ""
		go func() {
			var err error
			out, err = m.try("git", "-C", r.dir, "push", "cluster", "main")
			done <- err
		}()
		delay := time.Duration(random.Int64N(int64(within)))
		select {
		case <-time.After(delay):
		case <-t.Context().Done():
		}
		m.kill()
		pushed := <-done
		m.start("up")

		ref, _, _ := strings.Cut(r.git("ls-remote", "cluster", "refs/heads/main"), "\t")
		var found []string
		for _, name := range []string{"left", "right"} {
			o, err := c.CoreV1().ConfigMaps("default").Get(t.Context(), fmt.Sprintf("%s-%d", name, round), metav1.GetOptions{})
			if err == nil && o.Data["round"] == fmt.Sprint(round) {
				found = append(found, name)
			} else if !apierrors.IsNotFound(err) {
				t.Fatalf("round %d: get %s: %v, %v", round, name, err, o.Data)
			}
		}
		there := ref == head
		switch {
		case there && len(found) != 2, !there && len(found) != 0:
			t.Fatalf("round %d, killed after %s: main is %s, pushed was %s, and of its objects there are %v\n%s", round, delay, ref, head, found, out)
		case pushed == nil && !there:
			t.Fatalf("round %d, killed after %s: the push was acknowledged and is lost\n%s", round, delay, out)
		case pushed == nil:
			acknowledged++
			within = within * 3 / 4
		case there:
			unknown++
		default:
			absent++
			within = within * 3 / 2
		}
		if after := running(t, m, "default"); after != before {
			t.Fatalf("round %d changed the containers:\nbefore\n%s\nafter\n%s", round, before, after)
		}
	}
	t.Logf("of %d pushes %d were acknowledged, %d were there without a word, %d were absent", crashes, acknowledged, unknown, absent)
	if acknowledged+unknown == 0 || absent == 0 {
		t.Error("the kills did not fall on both sides of a commit: the test has shown nothing")
	}

	// What was absent is part of the next push's history: in the end all of it is there.
	if !strings.Contains(r.git("ls-remote", "cluster", "refs/heads/main"), strings.TrimSpace(r.git("rev-parse", "HEAD"))) {
		r.git("push", "cluster", "main")
	}
	r.healthy()
	all, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, o := range all.Items {
		if strings.HasPrefix(o.Name, "left-") || strings.HasPrefix(o.Name, "right-") {
			n++
		}
	}
	if n != 2*crashes {
		t.Errorf("%d objects are there in the end, want %d", n, 2*crashes)
	}
	fresh := t.TempDir() + "/clone"
	args := []string{"clone", "-q"}
	for line := range strings.Lines(r.git("config", "--get-regexp", "^http")) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		args = slices.Insert(args, 0, "-c", k+"="+v)
	}
	m.run("git", append(args, strings.TrimSpace(r.git("remote", "get-url", "cluster")), fresh)...)
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "git", "-C", fresh, "fsck", "--full", "--strict").CombinedOutput(); err != nil {
		t.Errorf("git fsck of a clone: %v\n%s", err, out)
	}
}
