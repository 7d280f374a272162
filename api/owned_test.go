package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
	"reconcile/sequencer"
)

// origins knows one field's line.
type origins struct{}

func (origins) Origin(k object.Key, field string) (api.FieldOrigin, bool) {
	return api.FieldOrigin{Commit: "3f2a1c0d9e8b7a65", File: "web.yaml", Line: 6}, k.Name == "web" && field == "spec.replicas"
}

// TestFieldsOfGit changes what git owns and what it leaves free.
func TestFieldsOfGit(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, func(c *api.Config) { c.Origins = origins{} })
	doc, err := yaml.YAMLToJSON([]byte(strings.SplitN(webYAML, "---", 2)[0]))
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := admission.DecodeJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	o.SetNamespace("default")
	admission.Default(o)
	admission.PrepareCreate(o, "web-uid", time.Now())
	owner := admission.Owner{Source: "cluster", Commit: "3f2a1c0d9e8b7a65", File: "web.yaml:1"}
	if err := admission.SetGitOwned(o, owner, doc, time.Now()); err != nil {
		t.Fatal(err)
	}
	store.Put(o)
	c := typed(t, s, false)
	ctx := t.Context()
	deployments := c.AppsV1().Deployments("default")

	_, err = deployments.Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"replicas":9,"paused":true}}`), metav1.PatchOptions{})
	var st *apierrors.StatusError
	if !apierrors.IsForbidden(err) || !errors.As(err, &st) {
		t.Fatalf("replicas: %v", err)
	}
	if len(st.ErrStatus.Details.Causes) != 1 {
		t.Fatalf("causes: %+v", st.ErrStatus.Details.Causes)
	}
	cause, err := json.Marshal(st.ErrStatus.Details.Causes[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"reason":"FieldValueForbidden","message":"owned by git:cluster at commit 3f2a1c0d9e8b, web.yaml:6","field":"spec.replicas"}`; string(cause) != want {
		t.Errorf("cause\n got %s\nwant %s", cause, want)
	}
	sc, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sc.Spec.Replicas = 8
	if _, err = deployments.UpdateScale(ctx, "web", sc, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("scale: %v", err)
	}
	// What git leaves out is free, and the marks of ownership survive a write that leaves them out.
	got, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(`{"metadata":{"annotations":{"a":"b","reconcile.local/source":null},"managedFields":[]},"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if o, owned := admission.GitOwner(got); !owned || o != owner || len(got.ManagedFields) != 1 || got.Annotations["a"] != "b" {
		t.Errorf("after a free write: %+v", got.ObjectMeta)
	}
	if err := deployments.Delete(ctx, "web", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete: %v", err)
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, "default", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete the namespace: %v", err)
	}
	// Nobody can claim git's ownership through the API.
	cm, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x",
		Annotations: map[string]string{object.AnnotationSource: "cluster"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, owned := admission.GitOwner(cm); owned {
		t.Error("a client claimed git's ownership")
	}
	if err := c.CoreV1().ConfigMaps("default").Delete(ctx, "x", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Error(err)
	}
}

// away is a writer whose cluster has no leader until it has been asked thrice.
type away struct {
	api.Writer
	asked int
}

func (a *away) Submit(ctx context.Context, r sequencer.Request) (sequencer.Result, error) {
	if a.asked++; a.asked < 3 {
		return sequencer.Result{}, apierrors.NewServiceUnavailable("no leader; nothing was changed")
	}
	return a.Writer.Submit(ctx, r)
}

// TestNoLeader sees that clients are told to try again, and do.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	w := &away{Writer: store}
	s := apitest.Start(t, store, func(c *api.Config) { c.Writer = w })
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	if _, err := typed(t, s, true).CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil || w.asked != 3 {
		t.Errorf("asked %d times: %v", w.asked, err)
	}
}
