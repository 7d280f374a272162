package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/controller"
)

// TestClaimInScopes: the scope of claims goes by the classes that a claim asks for, has, and is on its way to; scopes of pods count none.
func TestClaimInScopes(t *testing.T) {
	claim := func(asks, has, to string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{}
		if asks != "" {
			c.Spec.VolumeAttributesClassName = &asks
		}
		if has != "" {
			c.Status.CurrentVolumeAttributesClassName = &has
		}
		if to != "" {
			c.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: to}
		}
		return c
	}
	claims := []*corev1.PersistentVolumeClaim{claim("", "", ""), claim("gold", "", ""), claim("tin", "", ""), claim("tin", "gold", ""), claim("tin", "tin", "gold")}
	vac := corev1.ResourceQuotaScopeVolumeAttributesClass
	for _, c := range []struct {
		name string
		q    corev1.ResourceQuotaSpec
		want string // of each claim
	}{
		{"no scope", corev1.ResourceQuotaSpec{}, "yyyyy"},
		{"there", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{vac}}, "-yyyy"},
		{"none", selects(vac, corev1.ScopeSelectorOpDoesNotExist), "y----"},
		{"in", selects(vac, corev1.ScopeSelectorOpIn, "gold"), "-y-yy"},
		{"not in", selects(vac, corev1.ScopeSelectorOpNotIn, "gold"), "y-yyy"},
		{"of pods", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}}, "-----"},
	} {
		got := ""
		for _, x := range claims {
			if controller.ClaimInScopes(&corev1.ResourceQuota{Spec: c.q}, x) {
				got += "y"
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func selects(scope corev1.ResourceQuotaScope, op corev1.ScopeSelectorOperator, values ...string) corev1.ResourceQuotaSpec {
	return corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: scope, Operator: op, Values: values}}}}
}
