package object

import (
	appsv1 "k8s.io/api/apps/v1"
)

// appsKinds are the kinds of the group apps.
var appsKinds = []Kind{
	{GVK: appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), Resource: "controllerrevisions", Singular: "controllerrevision",
		Namespaced: true, make: of[appsv1.ControllerRevision]},
	{GVK: appsv1.SchemeGroupVersion.WithKind("DaemonSet"), Resource: "daemonsets", Singular: "daemonset", ShortNames: []string{"ds"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, make: of[appsv1.DaemonSet]},
	{GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"), Resource: "deployments", Singular: "deployment", ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, make: of[appsv1.Deployment]},
	{GVK: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), Resource: "replicasets", Singular: "replicaset", ShortNames: []string{"rs"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, make: of[appsv1.ReplicaSet]},
	{GVK: appsv1.SchemeGroupVersion.WithKind("StatefulSet"), Resource: "statefulsets", Singular: "statefulset", ShortNames: []string{"sts"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, make: of[appsv1.StatefulSet], read: nameClaims},
}

// nameClaims gives the claims of a stateful set the apiVersion and kind that Kubernetes shows them with.
func nameClaims(o Object) {
	s := o.(*appsv1.StatefulSet)
	for i := range s.Spec.VolumeClaimTemplates {
		s.Spec.VolumeClaimTemplates[i].APIVersion, s.Spec.VolumeClaimTemplates[i].Kind = "v1", "PersistentVolumeClaim"
	}
}
