package object

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// autoscalingKinds are the kinds of the group autoscaling.
var autoscalingKinds = []Kind{
	{GVK: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), Resource: "horizontalpodautoscalers", Singular: "horizontalpodautoscaler", ShortNames: []string{"hpa"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, make: of[autoscalingv2.HorizontalPodAutoscaler], also: []servedVersion{{autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), of[autoscalingv1.HorizontalPodAutoscaler]}}},
}
