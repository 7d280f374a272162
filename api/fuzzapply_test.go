package api

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"reconcile/admission"
	"reconcile/object"
)

// FuzzApply gives whatever YAML to server-side apply: it is refused or merged, and what is merged can be stored.
func FuzzApply(f *testing.F) {
	const base = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}}}`
	for _, s := range []string{base, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: c, ports: [{containerPort: 80, protocol: UDP}]}]}}}}`,
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, finalizers: [a, a]}}`, `{apiVersion: apps/v1, kind: Deployment, spec: null}`} {
		f.Add(s)
	}
	k, ok := object.KindOfResource("deployments")
	if !ok {
		f.Fatal("no deployments")
	}
	var managers fieldManagers
	m, err := managers.of(k, "")
	if err != nil {
		f.Fatal(err)
	}
	read := func(text string) (*unstructured.Unstructured, bool) {
		j, _, err := yamlToJSON([]byte(text))
		if err != nil {
			return nil, false
		}
		if _, err := decodeJSON(k, j, k.New()); err != nil {
			return nil, false
		}
		u := &unstructured.Unstructured{}
		return u, u.UnmarshalJSON(j) == nil
	}
	first, ok := read(base)
	if !ok {
		f.Fatal("the base is not read")
	}
	made, err := m.Apply(k.New(), first, "a", false)
	if err != nil {
		f.Fatal(err)
	}
	live := made.(object.Object)
	f.Fuzz(func(t *testing.T, text string) {
		u, ok := read(text)
		if !ok {
			return
		}
		merged, err := m.Apply(object.Copy(live), u, "b", true)
		if err != nil || merged == nil {
			return
		}
		o := merged.(object.Object)
		admission.Default(o)
		if _, err := object.Encode(o); err != nil {
			t.Error(err)
		}
	})
}
