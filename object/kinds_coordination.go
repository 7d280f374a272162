package object

import (
	coordinationv1 "k8s.io/api/coordination/v1"
)

// coordinationKinds are the kinds of the group coordination.
var coordinationKinds = []Kind{
	{GVK: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Resource: "leases", Singular: "lease", Uncached: true,
		Namespaced: true, FromGit: true, make: of[coordinationv1.Lease]},
}
