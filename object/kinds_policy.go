package object

import (
	policyv1 "k8s.io/api/policy/v1"
)

// policyKinds are the kinds of the group policy.
var policyKinds = []Kind{
	{GVK: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), Resource: "poddisruptionbudgets", Singular: "poddisruptionbudget", ShortNames: []string{"pdb"},
		Namespaced: true, FromGit: true, Status: true, make: of[policyv1.PodDisruptionBudget]},
}
