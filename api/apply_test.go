package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/client-go/applyconfigurations"
	applyautoscaling "k8s.io/client-go/applyconfigurations/autoscaling/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
)

// TestApply has several managers apply to one object.
func TestApply(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, false)
	ctx := t.Context()
	d := c.AppsV1().Deployments("default")
	apply := func(manager, doc string, force bool) error {
		t.Helper()
		o := metav1.PatchOptions{FieldManager: manager, FieldValidation: "Strict"}
		if force {
			o.Force = &force
		}
		_, err := d.Patch(ctx, "web", types.ApplyPatchType, []byte(doc), o)
		return err
	}
	web := strings.SplitN(webYAML, "---", 2)[0]
	if err := apply("a", web, false); err != nil {
		t.Fatal(err)
	}
	first, err := d.Get(ctx, "web", metav1.GetOptions{})
	if err != nil || *first.Spec.Replicas != 3 || first.UID == "" || first.Spec.Template.Spec.DNSPolicy == "" {
		t.Fatalf("after the first apply: %+v, %v", first, err)
	}
	if len(first.ManagedFields) != 1 || first.ManagedFields[0].Manager != "a" || first.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed fields: %+v", first.ManagedFields)
	}
	if err := apply("a", web, false); err != nil {
		t.Fatal(err)
	}
	if again, err := d.Get(ctx, "web", metav1.GetOptions{}); err != nil || again.ResourceVersion != first.ResourceVersion {
		t.Errorf("an apply that changes nothing was written: %s, %v", again.ResourceVersion, err)
	}
	other := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 5}}`
	err = apply("b", other, false)
	var st *apierrors.StatusError
	if !apierrors.IsConflict(err) || !errors.As(err, &st) || len(st.ErrStatus.Details.Causes) != 1 {
		t.Fatalf("conflict: %v", err)
	}
	if got := st.ErrStatus.Details.Causes[0]; got.Type != metav1.CauseTypeFieldManagerConflict || got.Field != ".spec.replicas" || got.Message != `conflict with "a"` {
		t.Errorf("cause: %+v", got)
	}
	if err := apply("b", other, true); err != nil {
		t.Fatal(err)
	}
	// Who no longer owns a field does not take it away by leaving it out.
	if err := apply("a", strings.Replace(web, "  replicas: 3\n", "", 1), false); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(ctx, "web", metav1.GetOptions{}); err != nil || *got.Spec.Replicas != 5 {
		t.Errorf("replicas %d, %v", *got.Spec.Replicas, err)
	}
	if err := apply("b", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}`, false); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(ctx, "web", metav1.GetOptions{}); err != nil || *got.Spec.Replicas != 1 {
		t.Errorf("after its only owner let go: replicas %d, %v", *got.Spec.Replicas, err)
	}
	for doc, want := range map[string]string{
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicass: 5}}`:                        `unknown field "spec.replicass"`,
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: other}}`:                                            "does not match the name on the URL",
		`{apiVersion: apps/v1beta1, kind: Deployment, metadata: {name: web}}`:                                         "invalid object type: apps/v1beta1, Kind=Deployment",
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, managedFields: []}}`:                           "managedFields must be nil",
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, resourceVersion: "1"}}`:                        "the object has been modified",
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {x: other}}}}`: "conflict",
	} {
		if err := apply("c", doc, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
	if err := apply("", web, false); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "fieldManager: Required value") {
		t.Errorf("no manager: %v", err)
	}
	if err := apply("git:cluster", web, true); !apierrors.IsBadRequest(err) {
		t.Errorf("a client that passes for git: %v", err)
	}
}

// TestApplyMakesAndTries: an apply makes what is not there, unless it names a version, and a dry run writes nothing.
func TestApplyMakesAndTries(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, true).CoreV1().ConfigMaps("default")
	ctx := t.Context()
	cm := applycore.ConfigMap("cm", "default").WithData(map[string]string{"a": "1"})
	got, err := c.Apply(ctx, cm, metav1.ApplyOptions{FieldManager: "m", DryRun: []string{metav1.DryRunAll}})
	if err != nil || got.Data["a"] != "1" {
		t.Fatal(got, err)
	}
	if _, err := c.Get(ctx, "cm", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run wrote: %v", err)
	}
	if _, err := c.Apply(ctx, applycore.ConfigMap("cm", "default").WithUID("gone"), metav1.ApplyOptions{FieldManager: "m"}); !apierrors.IsConflict(err) {
		t.Errorf("apply to an object that is gone: %v", err)
	}
	if _, err := c.Apply(ctx, cm, metav1.ApplyOptions{FieldManager: "m"}); err != nil {
		t.Fatal(err)
	}
	far := typed(t, s, true).CoreV1().ConfigMaps("nowhere")
	if _, err := far.Apply(ctx, applycore.ConfigMap("cm", "nowhere"), metav1.ApplyOptions{FieldManager: "m"}); !apierrors.IsNotFound(err) {
		t.Errorf("apply in a namespace that is not there: %v", err)
	}
	hpa := `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},"spec":{"maxReplicas":4,"targetCPUUtilizationPercentage":50,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}`
	k := typed(t, s, false)
	v1, err := k.AutoscalingV1().HorizontalPodAutoscalers("default").Patch(ctx, "h", types.ApplyPatchType, []byte(hpa), metav1.PatchOptions{FieldManager: "m"})
	if err != nil || *v1.Spec.TargetCPUUtilizationPercentage != 50 {
		t.Fatalf("%+v, %v", v1, err)
	}
	v2, err := k.AutoscalingV2().HorizontalPodAutoscalers("default").Get(ctx, "h", metav1.GetOptions{})
	if err != nil || len(v2.Spec.Metrics) != 1 || *v2.Spec.Metrics[0].Resource.Target.AverageUtilization != 50 {
		t.Fatalf("%+v, %v", v2, err)
	}
	if e := v2.ManagedFields[0]; e.APIVersion != autoscalingv1.SchemeGroupVersion.String() || !strings.Contains(e.FieldsV1.GetRawString(), "targetCPUUtilizationPercentage") {
		t.Errorf("managed fields: %+v", e)
	}
}

// TestManagedFieldsOfUpdates: writes that are no applies note their managers too, by the name of the program if they give none.
func TestManagedFieldsOfUpdates(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, false)
	ctx := t.Context()
	d := c.AppsV1().Deployments("default")
	if _, err := d.Create(ctx, newDeployment("web", 2), metav1.CreateOptions{FieldManager: "maker"}); err != nil {
		t.Fatal(err)
	}
	sc, err := d.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sc.Spec.Replicas = 4
	if _, err := d.UpdateScale(ctx, "web", sc, metav1.UpdateOptions{FieldManager: "scaler"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := d.Patch(ctx, "web", types.MergePatchType, []byte(`{"status":{"replicas":4}}`), metav1.PatchOptions{FieldManager: "reporter"}, "status")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range got.ManagedFields {
		has := "replicas:" + fmt.Sprint(strings.Contains(e.FieldsV1.GetRawString(), "f:replicas"))
		have = append(have, e.Manager+" "+string(e.Operation)+" "+e.Subresource+" "+has)
	}
	applied, err := d.ApplyScale(ctx, "web", applyautoscaling.Scale().WithName("web").WithSpec(applyautoscaling.ScaleSpec().WithReplicas(6)), metav1.ApplyOptions{FieldManager: "auto"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "scaler" with subresource "scale"`) {
		t.Errorf("apply of a scale: %v, %v", applied, err)
	}
	applied, err = d.ApplyScale(ctx, "web", applyautoscaling.Scale().WithName("web").WithSpec(applyautoscaling.ScaleSpec().WithReplicas(6)), metav1.ApplyOptions{FieldManager: "auto", Force: true})
	if err != nil || applied.Spec.Replicas != 6 || applied.Status.Selector != "app=web" {
		t.Errorf("apply of a scale by force: %+v, %v", applied, err)
	}
	if got, err := d.Get(ctx, "web", metav1.GetOptions{}); err != nil || *got.Spec.Replicas != 6 {
		t.Errorf("after an apply of a scale: %v, %v", *got.Spec.Replicas, err)
	}
	if _, err := d.ApplyScale(ctx, "none", applyautoscaling.Scale().WithSpec(applyautoscaling.ScaleSpec().WithReplicas(6)), metav1.ApplyOptions{FieldManager: "auto"}); !apierrors.IsNotFound(err) {
		t.Errorf("apply of a scale of nothing: %v", err)
	}
	slices.Sort(have)
	want := []string{"api.test Update  replicas:false", "maker Update  replicas:false", "reporter Update status replicas:true", "scaler Update scale replicas:true"}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("managers: %s", d)
	}
}

// TestApplyToFieldsOfGit: git is a manager like others, whom force does not overcome.
func TestApplyToFieldsOfGit(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, func(c *api.Config) { c.Origins = origins{} })
	putGitWeb(t, store)
	d := typed(t, s, false).AppsV1().Deployments("default")
	ctx := t.Context()
	doc := []byte(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 9}}`)
	_, err := d.Patch(ctx, "web", types.ApplyPatchType, doc, metav1.PatchOptions{FieldManager: "jane"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "git:cluster"`) {
		t.Errorf("apply: %v", err)
	}
	_, err = d.Patch(ctx, "web", types.ApplyPatchType, doc, metav1.PatchOptions{FieldManager: "jane", Force: ptr.To(true)})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "web.yaml:6") {
		t.Errorf("apply by force: %v", err)
	}
	free := []byte(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, annotations: {team: a}}, spec: {minReadySeconds: 3}}`)
	got, err := d.Patch(ctx, "web", types.ApplyPatchType, free, metav1.PatchOptions{FieldManager: "jane"})
	if err != nil {
		t.Fatal(err)
	}
	if _, owned := admission.GitOwner(got); !owned || got.Spec.MinReadySeconds != 3 || len(got.ManagedFields) != 2 {
		t.Errorf("after an apply of what git leaves out: %+v", got.ObjectMeta)
	}
}

// putGitWeb stores the deployment of webYAML as git's.
func putGitWeb(t *testing.T, store *apitest.Store) object.Object {
	t.Helper()
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
	if err := admission.SetGitOwned(o, admission.Owner{Source: "cluster", Commit: "3f2a1c0d9e8b7a65", File: "web.yaml:1"}, doc, time.Now()); err != nil {
		t.Fatal(err)
	}
	return store.Put(o)
}

// TestApplyAsKubernetesDoes makes random writes of several managers to one ConfigMap and expects what Kubernetes' own field manager
// says: the same content, the same managers, the same conflicts.
func TestApplyAsKubernetesDoes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, false)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		compareApplies(rt, t.Context(), c, fmt.Sprintf("cm-%d", run))
	})
}

func compareApplies(rt *rapid.T, ctx context.Context, c kubernetes.Interface, name string) {
	oracle := managedfieldstest.NewTestFieldManager(applyconfigurations.NewTypeConverter(object.Scheme()), corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	maps := c.CoreV1().ConfigMaps("default")
	for range rapid.IntRange(1, 8).Draw(rt, "steps") {
		manager := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "manager")
		data := rapid.MapOfN(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.SampledFrom([]string{"1", "2"}), 1, 3).Draw(rt, "data")
		doc := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "default"}, "data": data}
		raw, err := json.Marshal(doc)
		if err != nil {
			rt.Fatal(err)
		}
		var want, got error
		_, gone := maps.Get(ctx, name, metav1.GetOptions{})
		if rapid.Bool().Draw(rt, "apply") || gone != nil {
			force := rapid.Bool().Draw(rt, "force")
			sent := applycore.ConfigMap(name, "default").WithData(data)
			u, err := toUnstructured(raw)
			if err != nil {
				rt.Fatal(err)
			}
			want = oracle.Apply(u, manager, force)
			_, got = maps.Apply(ctx, sent, metav1.ApplyOptions{FieldManager: manager, Force: force})
		} else {
			want = oracle.Update(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: data}, manager)
			_, got = maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.UpdateOptions{FieldManager: manager})
		}
		if (want == nil) != (got == nil) {
			rt.Fatalf("%s by %s: Kubernetes says %v, we %v", raw, manager, want, got)
		}
		if want != nil && statusCauses(want) != statusCauses(got) {
			rt.Fatalf("%s by %s: Kubernetes says %v, we %v", raw, manager, want, got)
		}
	}
	have, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		rt.Fatal(err)
	}
	var must corev1.ConfigMap
	b, err := json.Marshal(oracle.Live())
	if err != nil {
		rt.Fatal(err)
	}
	if err := json.Unmarshal(b, &must); err != nil {
		rt.Fatal(err)
	}
	if d := cmp.Diff(must.Data, have.Data); d != "" {
		rt.Fatalf("content: %s", d)
	}
	if d := cmp.Diff(managersOf(must.ManagedFields), managersOf(have.ManagedFields)); d != "" {
		rt.Fatalf("managers: %s", d)
	}
}

func toUnstructured(raw []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(raw)
}

// statusCauses are an error's causes as text.
func statusCauses(err error) string {
	var st *apierrors.StatusError
	if !errors.As(err, &st) || st.ErrStatus.Details == nil {
		return err.Error()
	}
	var out []string
	for _, c := range st.ErrStatus.Details.Causes {
		// The message of a conflict with an update ends with the time.
		message, _, _ := strings.Cut(c.Message, " at ")
		out = append(out, string(c.Type)+" "+c.Field+" "+message)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// managersOf is who owns what, in any order.
func managersOf(entries []metav1.ManagedFieldsEntry) map[string]string {
	out := map[string]string{}
	for _, e := range entries {
		out[e.Manager+" "+string(e.Operation)] = e.FieldsV1.GetRawString()
	}
	return out
}
