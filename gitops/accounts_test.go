package gitops

import (
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
		if out := unwrap(w.git("push", "cluster", "HEAD:refs/plan/main")); !strings.Contains(out, warning) {
			t.Errorf("the plan of a %s says %s, want %q", kind, out, warning)
		}
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
