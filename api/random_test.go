package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	clientapps "k8s.io/client-go/kubernetes/typed/apps/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // the scheme of Kubernetes' own server
	"k8s.io/kubernetes/pkg/apis/apps/validation"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"reconcile/api/apitest"
)

// oracle says what Kubernetes' own packages make of writes to one Deployment: its field manager, conversions and defaults, put together as
// kube-apiserver does. Nothing of ours takes part.
type oracle struct {
	managers *managedfields.FieldManager
	live     *appsv1.Deployment
}

var deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")

func newOracle(rt *rapid.T) *oracle {
	reset := map[fieldpath.APIVersion]fieldpath.Filter{"apps/v1": fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status")))}
	s := legacyscheme.Scheme
	m, err := managedfields.NewDefaultFieldManager(applyconfigurations.NewTypeConverter(scheme.Scheme), s, s, s, deploymentKind,
		schema.GroupVersion{Group: "apps", Version: runtime.APIVersionInternal}, "", reset)
	if err != nil {
		rt.Fatal(err)
	}
	return &oracle{m, &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}}}
}

// errInvalid is a result that Kubernetes' validation refuses: what nobody owns any more may be what is required.
var errInvalid = errors.New("the result is not valid")

// keep makes a result the live object, if it is valid.
func (o *oracle) keep(rt *rapid.T, in runtime.Object) error {
	out, err := legacyscheme.Scheme.ConvertToVersion(in, appsv1.SchemeGroupVersion)
	if err != nil {
		rt.Fatal(err)
	}
	legacyscheme.Scheme.Default(out)
	var internal apps.Deployment
	if err := legacyscheme.Scheme.Convert(out, &internal, nil); err != nil {
		rt.Fatal(err)
	}
	if len(validation.ValidateDeployment(&internal, corevalidation.PodValidationOptions{})) > 0 {
		return errInvalid
	}
	o.live = out.(*appsv1.Deployment)
	return nil
}

func (o *oracle) apply(rt *rapid.T, doc []byte, manager string, force bool) error {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(doc); err != nil {
		rt.Fatal(err)
	}
	out, err := o.managers.Apply(o.live.DeepCopy(), u, manager, force)
	if err == nil && out != nil {
		return o.keep(rt, out)
	}
	return err
}

func (o *oracle) update(rt *rapid.T, to *appsv1.Deployment, manager string) {
	to = to.DeepCopy()
	legacyscheme.Scheme.Default(to)
	to.ManagedFields = o.live.ManagedFields
	if err := o.keep(rt, o.managers.UpdateNoErrors(o.live.DeepCopy(), to, manager)); err != nil {
		rt.Fatal(err)
	}
}

// subset draws some of a list, in any order.
func subset[T comparable](rt *rapid.T, name string, of []T, least int) []T {
	all := rapid.Permutation(of).Draw(rt, name)
	return all[:rapid.IntRange(least, len(of)).Draw(rt, name+" n")]
}

// maybe draws whether a field is set.
func maybe(rt *rapid.T, name string) bool { return rapid.Bool().Draw(rt, "has "+name) }

// texts draws a map.
func texts(rt *rapid.T, name string) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom([]string{"x", "y", "example.com/z"}), rapid.SampledFrom([]string{"1", "2"}), 0, 3).Draw(rt, name)
}

// randomDeployment has maps, lists with one key and with two, sets and lists that are replaced as a whole; each part may be left out. What
// validation wants is always there, so that only fields are judged.
func randomDeployment(rt *rapid.T, name string) *appsv1.Deployment {
	app := map[string]string{"app": "x"}
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: texts(rt, "labels"), Annotations: texts(rt, "annotations")},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app, Annotations: texts(rt, "notes")}}},
	}
	d.Finalizers = subset(rt, "finalizers", []string{"example.com/a", "example.com/b"}, 0)
	if maybe(rt, "replicas") {
		d.Spec.Replicas = ptr.To(rapid.Int32Range(0, 3).Draw(rt, "replicas"))
	}
	if maybe(rt, "strategy") {
		surge := intstr.FromString(rapid.SampledFrom([]string{"25%", "50%"}).Draw(rt, "surge"))
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge}}
	}
	spec := &d.Spec.Template.Spec
	for _, c := range subset(rt, "containers", []string{"a", "b", "c"}, 1) {
		spec.Containers = append(spec.Containers, randomContainer(rt, c))
	}
	if maybe(rt, "tolerations") {
		for _, key := range subset(rt, "tolerations", []string{"t1", "t2"}, 1) {
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
		}
	}
	if maybe(rt, "nodeSelector") {
		spec.NodeSelector = map[string]string{"disk": rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(rt, "disk")}
	}
	for _, ip := range subset(rt, "hostAliases", []string{"10.0.0.1", "10.0.0.2"}, 0) {
		spec.HostAliases = append(spec.HostAliases, corev1.HostAlias{IP: ip, Hostnames: subset(rt, "hostnames", []string{"h1", "h2"}, 1)})
	}
	return d
}

func randomContainer(rt *rapid.T, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: rapid.SampledFrom([]string{"i:1", "i:2"}).Draw(rt, "image")}
	for _, e := range subset(rt, "env", []string{"X", "Y"}, 0) {
		c.Env = append(c.Env, corev1.EnvVar{Name: e, Value: rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "value")})
	}
	for _, p := range subset(rt, "ports", []int32{80, 81}, 0) {
		c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: p})
	}
	if maybe(rt, "command") {
		c.Command = subset(rt, "command", []string{"run", "fast"}, 1)
	}
	if maybe(rt, "limits") {
		c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse(rapid.SampledFrom([]string{"1", "500m", "0.5"}).Draw(rt, "cpu"))}
	}
	return c
}

// written is what a client sends: no status, no times, no empty lists.
func written(rt *rapid.T, d *appsv1.Deployment) []byte {
	b, err := json.Marshal(d)
	if err != nil {
		rt.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		rt.Fatal(err)
	}
	delete(m, "status")
	prune(m)
	if b, err = json.Marshal(m); err != nil {
		rt.Fatal(err)
	}
	return b
}

// prune takes away what a person would not write.
func prune(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			prune(x)
			if m, ok := x.(map[string]any); x == nil || ok && len(m) == 0 {
				delete(v, k)
			}
		}
	case []any:
		for _, x := range v {
			prune(x)
		}
	}
}

// TestWritesAsKubernetesDoes makes random writes of several managers to a Deployment - server-side apply, updates, and patches of each
// kind from what there is to what is wanted - and expects what Kubernetes' own packages say: the same content, managers and conflicts.
func TestWritesAsKubernetesDoes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	cfg := restConfig(t, s, false)
	cfg.WarningHandler = rest.NoWarnings{}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	deployments := c.AppsV1().Deployments("default")
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		o, name := newOracle(rt), fmt.Sprint("web-", run)
		for range rapid.IntRange(1, 7).Draw(rt, "steps") {
			step(rt, t.Context(), o, deployments, name)
			have, err := deployments.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				rt.Fatal(err)
			}
			for what, pair := range map[string][2]any{
				"spec": {o.live.Spec, have.Spec}, "labels": {o.live.Labels, have.Labels}, "annotations": {o.live.Annotations, have.Annotations},
				"finalizers": {o.live.Finalizers, have.Finalizers}, "managers": {managersOf(o.live.ManagedFields), managersOf(have.ManagedFields)},
			} {
				if d := cmp.Diff(jsonOf(rt, pair[0]), jsonOf(rt, pair[1])); d != "" {
					rt.Fatalf("%s (-Kubernetes +ours): %s", what, d)
				}
			}
		}
	})
}

func jsonOf(rt *rapid.T, v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		rt.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		rt.Fatal(err)
	}
	prune(out)
	switch x := out.(type) {
	case map[string]any:
		if len(x) == 0 {
			return nil
		}
	case []any:
		if len(x) == 0 {
			return nil
		}
	}
	return out
}

// step makes one write with both.
func step(rt *rapid.T, ctx context.Context, o *oracle, deployments clientapps.DeploymentInterface, name string) {
	manager := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "manager")
	want := randomDeployment(rt, name)
	how := "apply"
	if o.live.Name != "" {
		how = rapid.SampledFrom([]string{"apply", "apply", "update", "strategic", "merge", "json"}).Draw(rt, "how")
	}
	if how == "apply" {
		force, doc := rapid.Bool().Draw(rt, "force"), written(rt, want)
		theirs := o.apply(rt, doc, manager, force)
		_, ours := deployments.Patch(ctx, name, types.ApplyPatchType, doc, metav1.PatchOptions{FieldManager: manager, Force: &force, FieldValidation: "Strict"})
		if errors.Is(theirs, errInvalid) && apierrors.IsInvalid(ours) {
			return
		}
		if (theirs == nil) != (ours == nil) || theirs != nil && statusCauses(theirs) != statusCauses(ours) {
			rt.Fatalf("%s by %s: Kubernetes says %v, we %v", doc, manager, theirs, ours)
		}
		return
	}
	have, err := deployments.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		rt.Fatal(err)
	}
	have.ManagedFields = nil
	next := have.DeepCopy()
	next.Labels, next.Annotations, next.Finalizers, next.Spec = want.Labels, want.Annotations, want.Finalizers, want.Spec
	if how == "update" {
		_, err = deployments.Update(ctx, next, metav1.UpdateOptions{FieldManager: manager})
	} else {
		media, patch := patchOf(rt, how, have, next)
		_, err = deployments.Patch(ctx, name, media, patch, metav1.PatchOptions{FieldManager: manager, FieldValidation: "Strict"})
		if how == "strategic" {
			// It does not move what stands in a list already.
			next = merged(rt, written(rt, have), patch)
		}
	}
	if err != nil {
		rt.Fatalf("%s by %s: %v", how, manager, err)
	}
	next.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	o.update(rt, next, manager)
}

// merged is what Kubernetes' package makes of a strategic patch.
func merged(rt *rapid.T, doc, patch []byte) *appsv1.Deployment {
	b, err := strategicpatch.StrategicMergePatch(doc, patch, &appsv1.Deployment{})
	if err != nil {
		rt.Fatal(err)
	}
	out := &appsv1.Deployment{}
	if err := json.Unmarshal(b, out); err != nil {
		rt.Fatal(err)
	}
	return out
}

// patchOf makes a patch from one object to another, with what Kubernetes' clients make patches.
func patchOf(rt *rapid.T, how string, from, to *appsv1.Deployment) (types.PatchType, []byte) {
	a, b := written(rt, from), written(rt, to)
	var (
		out   []byte
		err   error
		media types.PatchType
	)
	switch how {
	case "strategic":
		media = types.StrategicMergePatchType
		out, err = strategicpatch.CreateTwoWayMergePatch(a, b, &appsv1.Deployment{})
	case "merge":
		media = types.MergePatchType
		out, err = jsonpatch.CreateMergePatch(a, b)
	default:
		media = types.JSONPatchType
		out, err = operations(a, b)
	}
	if err != nil {
		rt.Fatal(err)
	}
	return media, out
}

// operations are a JSON patch that tests what there is and puts the other in its place.
func operations(a, b []byte) ([]byte, error) {
	var from, to map[string]map[string]any
	for doc, into := range map[*map[string]map[string]any][]byte{&from: a, &to: b} {
		var whole map[string]json.RawMessage
		if err := json.Unmarshal(into, &whole); err != nil {
			return nil, err
		}
		*doc = map[string]map[string]any{}
		for _, part := range []string{"metadata", "spec"} {
			m := map[string]any{}
			if err := json.Unmarshal(whole[part], &m); err != nil {
				return nil, errors.Join(errors.New(part), err)
			}
			(*doc)[part] = m
		}
	}
	var ops []map[string]any
	for _, part := range []string{"metadata", "spec"} {
		keys := map[string]bool{}
		for k := range from[part] {
			keys[k] = true
		}
		for k := range to[part] {
			keys[k] = true
		}
		for k := range keys {
			old, had := from[part][k]
			next, has := to[part][k]
			path := "/" + part + "/" + k
			switch {
			case had && has && cmp.Equal(old, next):
			case had && has:
				switch old.(type) {
				case map[string]any, []any: // they were pruned
				default:
					ops = append(ops, map[string]any{"op": "test", "path": path, "value": old})
				}
				ops = append(ops, map[string]any{"op": "replace", "path": path, "value": next})
			case had:
				ops = append(ops, map[string]any{"op": "remove", "path": path})
			default:
				ops = append(ops, map[string]any{"op": "add", "path": path, "value": next})
			}
		}
	}
	slices.SortStableFunc(ops, func(x, y map[string]any) int {
		if x["path"] == y["path"] {
			return 0
		}
		return map[bool]int{true: -1, false: 1}[x["path"].(string) < y["path"].(string)]
	})
	if ops == nil {
		ops = []map[string]any{}
	}
	return json.Marshal(ops)
}
