package api_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
	"reconcile/sequencer"
)

// fileLines is where the page's file sets the fields that the table names.
type fileLines map[string]int

func (l fileLines) Origin(_ object.Key, field string) (api.FieldOrigin, bool) {
	n, ok := l[field]
	return api.FieldOrigin{Commit: "3f2a1c0d9e8b7a65", File: "web.yaml", Line: n}, ok
}

var tableLine = regexp.MustCompile("(?m)^\\| `(.*)` \\| (accepted|refused: .*) \\| accepted \\|$")

// TestPageOfFieldsOfGit runs every line of docs/fields-of-git.md, on an object of git and on one of kubectl's.
func TestPageOfFieldsOfGit(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/fields-of-git.md")
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.SplitN(strings.SplitN(string(page), "```yaml\n", 2)[1], "```", 2)[0]
	lines := fileLines{"spec.replicas": 5, "spec.template.spec.containers[web].image": 11, "metadata.labels.app": 3, "spec.ttlSecondsAfterFinished": 1}
	store := newRealStore(t)
	s := apitest.Start(t, apitest.New(), func(c *api.Config) { c.Store, c.Writer, c.Origins = store, store, lines })
	k := newKubectl(t, s)
	c := typed(t, s, false)
	eventually(t, "the preset namespaces", func() bool {
		_, err := c.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	push(t, store, strings.ReplaceAll(manifest, "NAME", "git"), sequencer.Create)
	push(t, store, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop-git}\n", sequencer.Create)
	const job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: NAME}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"
	push(t, store, strings.ReplaceAll(job, "NAME", "git"), sequencer.Create)
	k.ok(strings.ReplaceAll(job, "NAME", "hand"), "create", "-f", "-")
	k.ok("", "create", "ns", "shop-hand")
	k.ok(strings.ReplaceAll(manifest, "NAME", "hand"), "create", "-f", "-")
	rows := tableLine.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("the page has %d lines that can be read", len(rows))
	}
	for _, row := range rows {
		command := strings.ReplaceAll(row[1], `\|`, "|")
		if strings.Contains(command, "rollout undo") {
			revised(t, store, "git", 1)
			push(t, store, strings.ReplaceAll(strings.ReplaceAll(manifest, "NAME", "git"), "nginx:1", "nginx:8"), sequencer.Update)
			revised(t, store, "git", 2)
			revised(t, store, "hand", 2)
		}
		out, err := k.line(strings.ReplaceAll(command, "NAME", "hand"))
		if err != nil {
			t.Errorf("%s, object of kubectl: %v\n%s", command, err, out)
		}
		out, err = k.line(strings.ReplaceAll(command, "NAME", "git"))
		what, refused := strings.CutPrefix(row[2], "refused: ")
		field := strings.Trim(what, "`")
		switch {
		case !refused && err != nil:
			t.Errorf("%s, object of git: %v\n%s", command, err, out)
		case refused && (err == nil || !strings.Contains(out, "web.yaml:") || what != "the object" && !strings.Contains(out, field+" (web.yaml:"+lines.at(field)+")")):
			t.Errorf("%s, object of git: %v, want a refusal with %s, file and line\n%s", command, err, what, out)
		}
	}
}

func (l fileLines) at(field string) string { return strconv.Itoa(l[field]) }

// line runs a line of the shell with kubectl in it.
func (k kubectl) line(command string) (string, error) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 60*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", command)
	c.Env = append(os.Environ(), "KUBECONFIG="+k.s.Kubeconfig, "HOME="+k.home)
	out, err := c.CombinedOutput()
	return string(out), err
}

// push makes or changes an object as a push does.
func push(t *testing.T, store realStore, manifest string, verb sequencer.Verb) {
	t.Helper()
	doc, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := admission.DecodeJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	if o.GetObjectKind().GroupVersionKind().Kind != "Namespace" {
		o.SetNamespace("default")
	}
	admission.Default(o)
	if live, ok := store.View().Get(object.KeyOf(o)); ok {
		if o, err = admission.MergeGit(live, doc); err != nil {
			t.Fatal(err)
		}
	} else {
		admission.PrepareCreate(o, types.UID("uid-"+o.GetName()), time.Now())
	}
	if err := admission.SetGitOwned(o, admission.Owner{Source: "cluster", Commit: "3f2a1c0d9e8b7a65", File: "web.yaml:1"}, doc, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Submit(t.Context(), sequencer.Request{User: "git", Source: "cluster", Ops: []sequencer.Op{{Verb: verb, Key: object.KeyOf(o), Object: o}}}); err != nil {
		t.Fatal(err)
	}
}

// revised waits until a deployment has so many revisions.
func revised(t *testing.T, store realStore, name string, n int) {
	t.Helper()
	eventually(t, "revisions of "+name, func() bool {
		have := 0
		for o := range store.View().List("replicasets", corev1.NamespaceDefault) {
			if rs, ok := o.(*appsv1.ReplicaSet); ok && len(rs.OwnerReferences) > 0 && rs.OwnerReferences[0].Name == name {
				have++
			}
		}
		return have >= n
	})
}
