package gitops

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/manifests"
	"reconcile/object"
	"reconcile/sequencer"
)

// overtime evaluates nothing while it is on, as a child does that the machine gave no time.
type overtime struct {
	manifests.Evaluator
	on bool
}

// Evaluate implements manifests.Evaluator.
func (e *overtime) Evaluate(ctx context.Context, request []byte, each func([]byte) error) error {
	if e.on {
		return errors.New("evaluating this CUE takes longer than 10s; it was stopped")
	}
	return e.Evaluator.Evaluate(ctx, request, each)
}

// restart puts a new service, which has read nothing, before the same store.
func (w *world) restart(loader *manifests.Loader) {
	w.t.Helper()
	svc, err := New(Config{Cluster: "test", Store: kv{w.store}, State: state{w.store}, Writer: w.seq, Loader: loader, Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.svc = svc
}

// TestPruneAfterAnIncompleteRead: what main's tree was read as after a restart, which may lack what could not be evaluated just
// then, decides no deletion: the next push removes what left git all the same.
func TestPruneAfterAnIncompleteRead(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{
		"c.cue":  "package c\nc: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"c\"}\n",
		"b.yaml": configMap("b", "1"),
	})
	w.git("push", "cluster", "main")
	child, err := manifests.NewChild()
	if err != nil {
		t.Fatal(err)
	}
	evaluator := &overtime{Evaluator: child, on: true}
	loader, err := manifests.NewLoader(manifests.Config{Evaluator: evaluator})
	if err != nil {
		t.Fatal(err)
	}
	w.restart(loader)
	if err := w.svc.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	evaluator.on = false
	w.commit(map[string]string{"c.cue": ""})
	out := w.git("push", "cluster", "main")
	if !strings.Contains(out, "- configmap/default/c") || !strings.Contains(out, "1 to delete") {
		t.Errorf("push:\n%s", out)
	}
	if _, ok := w.get(object.Key{Resource: "configmaps", Namespace: "default", Name: "c"}); ok {
		t.Error("what left git is still there")
	}
	if _, ok := w.get(object.Key{Resource: "configmaps", Namespace: "default", Name: "b"}); !ok {
		t.Error("what is in git is gone")
	}
}

// TestPruneTakesOnlyItsOwn: an object that the tree before held, and that is another source's or nobody's since, stays.
func TestPruneTakesOnlyItsOwn(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1"), "c.yaml": configMap("c", "1"), "d.yaml": configMap("d", "1")})
	w.git("push", "cluster", "main")
	free := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}}
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}}
	if err := admission.SetGitOwned(theirs, admission.Owner{Source: "elsewhere", Commit: "c", File: "f.yaml:1"}, []byte(`{}`), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.replace(free, theirs)
	w.commit(map[string]string{"b.yaml": "", "c.yaml": "", "d.yaml": ""})
	if out := w.git("push", "cluster", "main"); !strings.Contains(out, "1 to delete") {
		t.Errorf("push:\n%s", out)
	}
	for name, want := range map[string]bool{"a": true, "b": true, "c": true, "d": false} {
		if _, ok := w.get(object.Key{Resource: "configmaps", Namespace: "default", Name: name}); ok != want {
			t.Errorf("configmap %s is there: %v, want %v", name, ok, want)
		}
	}
}

// replace takes live objects away and puts others of the same keys there, as another source may.
func (w *world) replace(objects ...object.Object) {
	w.t.Helper()
	for _, o := range objects {
		for _, op := range []sequencer.Op{{Verb: sequencer.Delete, Key: object.KeyOf(o)}, create(o)} {
			if _, err := w.seq.Submit(w.t.Context(), sequencer.Request{User: "test", Source: "elsewhere", Ops: []sequencer.Op{op}}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}
