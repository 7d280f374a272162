package object

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// schedulingKinds are the kinds of the group scheduling.
var schedulingKinds = []Kind{
	{GVK: schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"), Resource: "priorityclasses", Singular: "priorityclass", ShortNames: []string{"pc"},
		FromGit: true, make: of[schedulingv1.PriorityClass]},
}
