package object

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

// flowcontrolKinds are the kinds of the group flowcontrol.apiserver. The API orders its own queue without them (api/flow.go).
var flowcontrolKinds = []Kind{
	{GVK: flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"), Resource: "flowschemas", Singular: "flowschema",
		FromGit: true, Dormant: true, Status: true, make: of[flowcontrolv1.FlowSchema]},
	{GVK: flowcontrolv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"), Resource: "prioritylevelconfigurations", Singular: "prioritylevelconfiguration",
		FromGit: true, Dormant: true, Status: true, make: of[flowcontrolv1.PriorityLevelConfiguration]},
}
