package api_test

import (
	"strings"
	"testing"

	"reconcile/api/apitest"
	"reconcile/object"
)

// TestExplain: every kind's schema is there for kubectl explain, and both forms of v2 can be read.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	k := newKubectl(t, s)
	has(t, k.ok("", "explain", "deployment.spec.strategy.rollingUpdate.maxSurge"), "GROUP:      apps", "FIELD: maxSurge <IntOrString>", "maximum number of pods")
	has(t, k.ok("", "explain", "hpa.spec.targetCPUUtilizationPercentage", "--api-version=autoscaling/v1"), "VERSION:    v1", "<integer>")
	has(t, k.ok("", "explain", "pod.spec.restartPolicy"), "ENUM:", "OnFailure")
	has(t, k.ok("", "explain", "pods", "--recursive", "--output=plaintext-openapiv2"), "KIND:     Pod", "terminationGracePeriodSeconds")
	c := typed(t, s, true)
	v2, err := c.Discovery().OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(v2.Definitions.AdditionalProperties); n < 300 {
		t.Errorf("v2 has %d definitions", n)
	}
	paths, err := c.Discovery().OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range object.Served() {
		name := "apis/" + kind.GVK.GroupVersion().String()
		if kind.GVK.Group == "" {
			name = "api/" + kind.GVK.Version
		}
		gv, ok := paths[name]
		if !ok {
			t.Errorf("the index has no %s", name)
			continue
		}
		b, err := gv.Schema("application/json")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), `"kind":"`+kind.GVK.Kind+`"`) || !strings.Contains(string(b), "/"+kind.Resource+`"`) {
			t.Errorf("%s has no %s", name, kind.GVK.Kind)
		}
	}
}
