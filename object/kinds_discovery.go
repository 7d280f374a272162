package object

import (
	discoveryv1 "k8s.io/api/discovery/v1"
)

// discoveryKinds are the kinds of the group discovery.
var discoveryKinds = []Kind{
	{GVK: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Resource: "endpointslices", Singular: "endpointslice",
		Namespaced: true, FromGit: true, make: of[discoveryv1.EndpointSlice]},
}
