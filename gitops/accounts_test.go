package gitops

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// workload is a manifest of a kind that makes pods which run as an account.
func workload(kind, name, account string) string {
	head := "apiVersion: apps/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec:\n"
	pod := "{serviceAccountName: " + account + ", containers: [{name: c, image: example/web:1}]}"
	template := "template: {metadata: {labels: {app: " + name + "}}, spec: " + pod + "}"
	selector := "  selector: {matchLabels: {app: " + name + "}}\n"
	switch kind {
	case "Pod":
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  serviceAccountName: " + account + "\n  containers: [{name: c, image: example/web:1}]\n"
	case "Job":
		return strings.Replace(head, "apps/v1", "batch/v1", 1) + "  template: {spec: {serviceAccountName: " + account + ", restartPolicy: Never, containers: [{name: c, image: example/web:1}]}}\n"
	case "CronJob":
		return strings.Replace(head, "apps/v1", "batch/v1", 1) + "  schedule: '0 0 1 1 *'\n  jobTemplate: {spec: {template: {spec: {serviceAccountName: " + account + ", restartPolicy: Never, containers: [{name: c, image: example/web:1}]}}}}\n"
	}
	return head + selector + "  " + template + "\n"
}

// TestMissingAccountIsTold pushes what makes pods that run as a ServiceAccount: where that is neither there nor in the push, the plan says so with the
// place, and a bare pod is refused with it, as any mistake.
func TestMissingAccountIsTold(t *testing.T) {
	w := newWorld(t)
	const there = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: there}\n"
	w.commit(map[string]string{"there.yaml": there})
	w.git("push", "cluster", "main")
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
		resource := strings.ToLower(kind)
		w.commit(map[string]string{"w.yaml": workload(kind, "w", "nosuch"), "z.yaml": configMap("z", "1")})
		warning := resource + "/default/w: no pod of it can be made: there is no ServiceAccount nosuch in namespace default, and none comes with this (w.yaml:"
		w.saysAt(warning)
		for what, files := range map[string]map[string]string{
			"an account that is there":        {"w.yaml": workload(kind, "w", "there"), "z.yaml": configMap("z", "1")},
			"the account default":             {"w.yaml": workload(kind, "w", "default"), "z.yaml": configMap("z", "1")},
			"an account that comes with it":   {"w.yaml": workload(kind, "w", "comes"), "z.yaml": strings.Replace(there, "there", "comes", 1)},
			"an account of another namespace": {"w.yaml": workload(kind, "w", "nosuch"), "z.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: blue}\n---\n" + strings.Replace(there, "name: there", "name: nosuch, namespace: blue", 1)},
		} {
			w.commit(files)
			out := unwrap(w.git("push", "cluster", "HEAD:refs/plan/main"))
			if told := strings.Contains(out, "no pod of it can be made"); told != (what == "an account of another namespace") {
				t.Errorf("%s of a %s: warned %v: %s", what, kind, told, out)
			}
			if strings.Contains(out, "is stored, and nothing acts on it yet") {
				t.Errorf("the plan says of an account that nothing acts on it: %s", out)
			}
		}
	}
	w.commit(map[string]string{"w.yaml": "", "z.yaml": "", "pod.yaml": workload("Pod", "bare", "nosuch")})
	out := w.refused("1 mistake; nothing was changed", "push", "cluster", "main")
	if want := `pod.yaml:5:23: pods "bare" is forbidden: error looking up service account default/nosuch: serviceaccount "nosuch" not found`; !strings.Contains(unwrap(out), want) {
		t.Errorf("the push says %s, want %q", out, want)
	}
}

// saysAt holds the plan of what is at HEAD to a warning that ends with the place of the account's name: the start is given up to the line.
func (w *world) saysAt(start string) {
	w.t.Helper()
	out := unwrap(w.git("push", "cluster", "HEAD:refs/plan/main"))
	place := regexp.MustCompile(regexp.QuoteMeta(start) + `([0-9]+):([0-9]+)\)`).FindStringSubmatch(out)
	if place == nil {
		w.t.Errorf("the plan says %s, want %q with line and column", out, start)
		return
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "w.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	line, _ := strconv.Atoi(place[1])
	col, _ := strconv.Atoi(place[2])
	lines := strings.Split(string(b), "\n")
	if line < 1 || line > len(lines) || col < 1 || col > len(lines[line-1]) || !strings.HasPrefix(strings.TrimPrefix(lines[line-1][col-1:], "serviceAccountName: "), "nosuch") {
		w.t.Errorf("the plan says %s: there is no such account at %s:%s of %s", out, place[1], place[2], b)
	}
}

// TestAccountGoesIsTold: a push that takes a ServiceAccount away tells of all whose pods run as it, also of what it leaves as it is; not of what goes too.
func TestAccountGoesIsTold(t *testing.T) {
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
		w := newWorld(t)
		const account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nosuch}\n"
		w.commit(map[string]string{"a.yaml": account, "w.yaml": workload(kind, "w", "nosuch"), "other.yaml": workload(kind, "other", "default")})
		w.git("push", "cluster", "main")
		w.commit(map[string]string{"a.yaml": "", "z.yaml": configMap("z", "1")})
		w.saysAt(strings.ToLower(kind) + "/default/w: no pod of it can be made any more: this takes away ServiceAccount nosuch of namespace default, which they run as (w.yaml:")
		if out := unwrap(w.git("push", "cluster", "HEAD:refs/plan/main")); strings.Count(out, "no pod of it can be made") != 1 {
			t.Errorf("the plan of a %s tells of others too: %s", kind, out)
		}
		w.commit(map[string]string{"w.yaml": ""})
		if out := unwrap(w.git("push", "cluster", "HEAD:refs/plan/main")); strings.Contains(out, "no pod of it can be made") {
			t.Errorf("the plan tells of a %s that goes with its account: %s", kind, out)
		}
	}
}
