package admission

import (
	"errors"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

var byCluster = Owner{Source: "cluster", Commit: "0123456789abcdef", File: "web.yaml:1"}

// owned is an object as git has made it.
func owned(t testing.TB, doc string) object.Object {
	t.Helper()
	o, set := decode(t, doc)
	Default(o)
	PrepareCreate(o, "u1", now)
	if err := SetGitOwned(o, byCluster, set, now); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestGitOwnedFields(t *testing.T) {
	o := owned(t, web)
	e := o.GetManagedFields()[0]
	const want = `{"f:metadata":{"f:labels":{"f:team":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},` +
		`"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"B\"}":{".":{},"f:name":{},"f:value":{}}},` +
		`"f:image":{},"f:livenessProbe":{"f:httpGet":{"f:path":{},"f:port":{}}},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}`
	if e.Manager != "git:cluster" || e.Operation != "Apply" || e.FieldsV1.GetRawString() != want {
		t.Errorf("manager %s owns\n%s, want\n%s", e.Manager, e.FieldsV1.GetRawString(), want)
	}
	if g, ok := GitOwner(o); !ok || g != byCluster {
		t.Errorf("owner %+v", g)
	}
}

func TestGitOwnedConflicts(t *testing.T) {
	old := owned(t, web).(*appsv1.Deployment)
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   []string
	}{
		{"nothing", func(*appsv1.Deployment) {}, nil},
		{"replicas", func(d *appsv1.Deployment) { n := int32(5); d.Spec.Replicas = &n }, []string{"spec.replicas"}},
		{"image", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" }, []string{"spec.template.spec.containers[c].image"}},
		{"restart", func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "x"}
		}, nil},
		{"a label of its own", func(d *appsv1.Deployment) { d.Labels = map[string]string{"team": "a", "mine": "b"} }, nil},
		{"an owner", func(d *appsv1.Deployment) {
			d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}}
		}, []string{"metadata.ownerReferences"}},
		{"git's label", func(d *appsv1.Deployment) { d.Labels = nil }, []string{"metadata.labels.team"}},
		{"a variable more", func(d *appsv1.Deployment) {
			c := &d.Spec.Template.Spec.Containers[0]
			c.Env = append(slices.Clone(c.Env), corev1.EnvVar{Name: "C", Value: "3"})
		}, nil},
		{"a variable less", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Env = d.Spec.Template.Spec.Containers[0].Env[:1]
		}, []string{"spec.template.spec.containers[c].env[B].name", "spec.template.spec.containers[c].env[B].value"}},
		{"order of variables", func(d *appsv1.Deployment) { slices.Reverse(d.Spec.Template.Spec.Containers[0].Env) }, nil},
		{"a default", func(d *appsv1.Deployment) { d.Spec.Paused = true }, nil},
		{"status", func(d *appsv1.Deployment) { d.Status.Replicas = 3 }, nil},
		{"selector", func(d *appsv1.Deployment) { d.Spec.Selector.MatchLabels["x"] = "y" }, []string{"spec.selector.matchLabels.x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := object.Copy(old)
			tc.change(next)
			got, err := GitOwnedConflicts(old, next)
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("conflicts %v (%v), want %v", got, err, tc.want)
			}
		})
	}
	err := GitDenied(old, "admin", []SetField{{"spec.replicas", "web.yaml:5"}})
	var st *apierrors.StatusError
	if !errors.As(err, &st) || !apierrors.IsForbidden(err) || st.ErrStatus.Details.Causes[0].Field != "spec.replicas" ||
		st.ErrStatus.Details.Causes[0].Message != "owned by git:cluster at commit 0123456789ab, web.yaml:5" ||
		!strings.Contains(err.Error(), `deployments.apps "web" is forbidden: git source "cluster" owns spec.replicas (web.yaml:5)`) {
		t.Errorf("denied: %v %+v", err, st)
	}
}

// TestJobOfGitIsKept: who may not delete an object of git may not have it deleted by its time either.
func TestJobOfGitIsKept(t *testing.T) {
	job := "{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: default}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}"
	old := owned(t, job).(*batchv1.Job)
	next := object.Copy(old)
	next.Spec.TTLSecondsAfterFinished = ptr.To(int32(0))
	got, err := GitOwnedConflicts(old, next)
	if err != nil || !slices.Equal(got, []string{"spec.ttlSecondsAfterFinished"}) {
		t.Errorf("set: conflicts %v (%v)", got, err)
	}
	if got, err := GitOwnedConflicts(next, old); err != nil || len(got) > 0 {
		t.Errorf("taken away: conflicts %v (%v)", got, err)
	}
}

func TestKeepGitOwner(t *testing.T) {
	old := owned(t, web)
	n := object.Copy(old)
	n.SetManagedFields(nil)
	n.SetAnnotations(map[string]string{"mine": "x", object.AnnotationFile: "forged:1"})
	KeepGitOwner(n, old)
	if g, _ := GitOwner(n); g != byCluster || n.GetAnnotations()["mine"] != "x" || len(n.GetManagedFields()) != 1 {
		t.Errorf("the marks must be kept: %v", n.GetAnnotations())
	}
	free, _ := decode(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: default}}")
	forged := object.Copy(free)
	forged.SetAnnotations(map[string]string{object.AnnotationSource: "cluster"})
	KeepGitOwner(forged, free)
	if _, ok := GitOwner(forged); ok {
		t.Error("a client must not make an object git's")
	}
	pod := object.Copy(free)
	pod.SetAnnotations(map[string]string{object.AnnotationCommit: "0123456789ab"})
	written := object.Copy(free)
	KeepGitOwner(written, pod)
	if object.CommitOf(written) != "0123456789ab" {
		t.Errorf("a write must not take the commit off what a controller made: %v", written.GetAnnotations())
	}
}

func TestMergeGit(t *testing.T) {
	const want = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {team: b}}
spec:
  selector: {matchLabels: {app: web}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: v2
        env: [{name: A, value: "9"}]
        livenessProbe: {exec: {command: [ok]}}
      - {name: side, image: s}
`
	live := owned(t, web).(*appsv1.Deployment)
	live.Labels["kubectl"] = "kept"
	live.Status.ReadyReplicas = 2
	live.ResourceVersion = "7"
	live.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "x"}
	live.Spec.Template.Spec.Containers[0].Env = append(live.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "MINE", Value: "kept"})
	before := object.Copy(live)
	set, err := yaml.YAMLToJSON([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	o, err := MergeGit(live, set)
	if err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(live, before) {
		t.Error("the live object was changed")
	}
	d := o.(*appsv1.Deployment)
	c := d.Spec.Template.Spec.Containers
	for what, ok := range map[string]bool{
		"git's label changed":                 d.Labels["team"] == "b",
		"kubectl's label kept":                d.Labels["kubectl"] == "kept",
		"status kept":                         d.Status.ReadyReplicas == 2 && d.UID == "u1" && d.ResourceVersion == "7",
		"restart kept":                        d.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] == "x",
		"replicas removed go back to default": *d.Spec.Replicas == 1,
		"strategy without leftovers":          d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && d.Spec.Strategy.RollingUpdate == nil,
		"containers in the file's order":      len(c) == 2 && c[0].Name == "c" && c[1].Name == "side" && c[1].TerminationMessagePath != "",
		"image":                               c[0].Image == "v2",
		"env merged by name":                  len(c[0].Env) == 2 && c[0].Env[0].Value == "9" && c[0].Env[1].Name == "MINE",
		"ports removed":                       len(c[0].Ports) == 0,
		"probe without leftovers":             c[0].LivenessProbe.HTTPGet == nil && c[0].LivenessProbe.Exec != nil,
	} {
		if !ok {
			t.Errorf("%s: no: %+v", what, d)
		}
	}
	if errs := Validate(d, live); len(errs) > 0 {
		t.Errorf("the merged object is not valid: %v", errs)
	}
	again, err := MergeGit(live, mustJSON(t, web))
	if err != nil || !equality.Semantic.DeepEqual(again, live) {
		t.Errorf("applying the same file changes something: %v", err)
	}
}

func TestMergeGitSecret(t *testing.T) {
	live := owned(t, "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: default}, stringData: {a: x, b: w}}").(*corev1.Secret)
	live.Data["mine"] = []byte("z")
	o, err := MergeGit(live, mustJSON(t, "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: default}, stringData: {a: new}}"))
	if err != nil {
		t.Fatal(err)
	}
	s := o.(*corev1.Secret)
	if string(s.Data["a"]) != "new" || s.Data["b"] != nil || string(s.Data["mine"]) != "z" || s.StringData != nil {
		t.Errorf("merged secret: %v %v", s.Data, s.StringData)
	}
}

// TestMergeGitService sees that what the cluster allotted stays.
func TestMergeGitService(t *testing.T) {
	const doc = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {selector: {a: b}, ports: [{port: 80}]}}"
	live := owned(t, doc).(*corev1.Service)
	live.Spec.ClusterIP, live.Spec.ClusterIPs = "10.96.1.1", []string{"10.96.1.1"}
	o, err := MergeGit(live, mustJSON(t, "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {selector: {a: c}, ports: [{port: 81}, {port: 81, protocol: UDP, name: u}]}}"))
	if err != nil {
		t.Fatal(err)
	}
	s := o.(*corev1.Service)
	if s.Spec.ClusterIP != "10.96.1.1" || len(s.Spec.Ports) != 2 || s.Spec.Ports[0].TargetPort.IntVal != 81 || len(s.Spec.Selector) != 1 || s.Spec.Selector["a"] != "c" {
		t.Errorf("merged service: %+v", s.Spec)
	}
}

func mustJSON(t testing.TB, doc string) []byte {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
