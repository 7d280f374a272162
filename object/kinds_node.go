package object

import (
	nodev1 "k8s.io/api/node/v1"
)

// nodeKinds are the kinds of the group node.
var nodeKinds = []Kind{
	{GVK: nodev1.SchemeGroupVersion.WithKind("RuntimeClass"), Resource: "runtimeclasses", Singular: "runtimeclass",
		FromGit: true, make: of[nodev1.RuntimeClass]},
}
