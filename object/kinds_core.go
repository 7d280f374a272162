package object

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// coreKinds are the kinds of the core group.
var coreKinds = []Kind{
	{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: "configmaps", Singular: "configmap", ShortNames: []string{"cm"},
		Namespaced: true, FromGit: true, make: of[corev1.ConfigMap], read: emptyData},
	{GVK: corev1.SchemeGroupVersion.WithKind("Endpoints"), Resource: "endpoints", Singular: "endpoints", ShortNames: []string{"ep"},
		Deprecated: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice", Namespaced: true, FromGit: true, make: of[corev1.Endpoints]},
	{GVK: corev1.SchemeGroupVersion.WithKind("Event"), Resource: "events", Singular: "event", ShortNames: []string{"ev"},
		Namespaced: true, NoDependents: true, Selectable: eventFields, make: of[corev1.Event], also: []servedVersion{{eventsv1.SchemeGroupVersion.WithKind("Event"), of[eventsv1.Event]}}},
	{GVK: corev1.SchemeGroupVersion.WithKind("LimitRange"), Resource: "limitranges", Singular: "limitrange", ShortNames: []string{"limits"},
		Namespaced: true, FromGit: true, make: of[corev1.LimitRange], read: emptyLimits},
	{GVK: corev1.SchemeGroupVersion.WithKind("Namespace"), Resource: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		FromGit: true, Status: true, OneByOne: true, Selectable: namespaceFields, Returned: true, Subresources: namespaceSubresources, make: of[corev1.Namespace]},
	{GVK: corev1.SchemeGroupVersion.WithKind("Node"), Resource: "nodes", Singular: "node", ShortNames: []string{"no"},
		Status: true, Selectable: nodeFields, Subresources: nodeSubresources, make: of[corev1.Node]},
	{GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolume"), Resource: "persistentvolumes", Singular: "persistentvolume", ShortNames: []string{"pv"},
		FromGit: true, Status: true, Returned: true, make: of[corev1.PersistentVolume]},
	{GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), Resource: "persistentvolumeclaims", Singular: "persistentvolumeclaim", ShortNames: []string{"pvc"},
		Namespaced: true, FromGit: true, Status: true, Returned: true, make: of[corev1.PersistentVolumeClaim]},
	{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Selectable: podFields, Returned: true, Subresources: podSubresources, make: of[corev1.Pod]},
	{GVK: corev1.SchemeGroupVersion.WithKind("PodTemplate"), Resource: "podtemplates", Singular: "podtemplate",
		Namespaced: true, FromGit: true, Returned: true, make: of[corev1.PodTemplate]},
	{GVK: corev1.SchemeGroupVersion.WithKind("ReplicationController"), Resource: "replicationcontrollers", Singular: "replicationcontroller", ShortNames: []string{"rc"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, Orphans: true, Selectable: replicationControllerFields, make: of[corev1.ReplicationController]},
	{GVK: corev1.SchemeGroupVersion.WithKind("ResourceQuota"), Resource: "resourcequotas", Singular: "resourcequota", ShortNames: []string{"quota"},
		Namespaced: true, FromGit: true, Status: true, Returned: true, make: of[corev1.ResourceQuota]},
	{GVK: corev1.SchemeGroupVersion.WithKind("Secret"), Resource: "secrets", Singular: "secret",
		Namespaced: true, FromGit: true, Selectable: secretFields, make: of[corev1.Secret]},
	{GVK: corev1.SchemeGroupVersion.WithKind("Service"), Resource: "services", Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Selectable: serviceFields, Returned: true, Subresources: serviceSubresources, make: of[corev1.Service]},
	{GVK: corev1.SchemeGroupVersion.WithKind("ServiceAccount"), Resource: "serviceaccounts", Singular: "serviceaccount", ShortNames: []string{"sa"},
		Namespaced: true, FromGit: true, Returned: true, Subresources: accountSubresources, make: of[corev1.ServiceAccount]},
}

// emptyData and emptyLimits give what is read the empty maps of Kubernetes' defaults, which it fills in whenever it reads and which the stored form does
// not tell: what compares exactly would see a change that nobody made.
func emptyData(o Object) {
	if c := o.(*corev1.ConfigMap); c.Data == nil {
		c.Data = map[string]string{}
	}
}

func emptyLimits(o Object) {
	l := o.(*corev1.LimitRange)
	for i := range l.Spec.Limits {
		if limit := &l.Spec.Limits[i]; limit.Type == corev1.LimitTypeContainer {
			if limit.Default == nil {
				limit.Default = corev1.ResourceList{}
			}
			if limit.DefaultRequest == nil {
				limit.DefaultRequest = corev1.ResourceList{}
			}
		}
	}
}

func podFields(o Object, set fields.Set) {
	p := o.(*corev1.Pod)
	set["spec.nodeName"] = p.Spec.NodeName
	set["spec.restartPolicy"] = string(p.Spec.RestartPolicy)
	set["spec.schedulerName"] = p.Spec.SchedulerName
	set["spec.serviceAccountName"] = p.Spec.ServiceAccountName
	set["spec.hostNetwork"] = strconv.FormatBool(p.Spec.HostNetwork)
	set["status.phase"] = string(p.Status.Phase)
	set["status.nominatedNodeName"] = p.Status.NominatedNodeName
	set["status.podIP"] = p.Status.PodIP
	set["status.podIPs"] = ""
	if len(p.Status.PodIPs) > 0 {
		set["status.podIPs"] = p.Status.PodIPs[0].IP
	}
}

func nodeFields(o Object, set fields.Set) {
	set["spec.unschedulable"] = strconv.FormatBool(o.(*corev1.Node).Spec.Unschedulable)
}

func namespaceFields(o Object, set fields.Set) {
	set["status.phase"] = string(o.(*corev1.Namespace).Status.Phase)
}

func secretFields(o Object, set fields.Set) { set["type"] = string(o.(*corev1.Secret).Type) }

func serviceFields(o Object, set fields.Set) {
	s := o.(*corev1.Service)
	set["spec.clusterIP"] = s.Spec.ClusterIP
	set["spec.type"] = string(s.Spec.Type)
}

func replicationControllerFields(o Object, set fields.Set) {
	set["status.replicas"] = strconv.Itoa(int(o.(*corev1.ReplicationController).Status.Replicas))
}

// eventFields has the names of both versions of events: a selector of either is answered.
func eventFields(o Object, set fields.Set) {
	e := o.(*corev1.Event)
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	for _, of := range []string{"involvedObject", "regarding"} {
		set[of+".kind"] = e.InvolvedObject.Kind
		set[of+".namespace"] = e.InvolvedObject.Namespace
		set[of+".name"] = e.InvolvedObject.Name
		set[of+".uid"] = string(e.InvolvedObject.UID)
		set[of+".apiVersion"] = e.InvolvedObject.APIVersion
		set[of+".resourceVersion"] = e.InvolvedObject.ResourceVersion
		set[of+".fieldPath"] = e.InvolvedObject.FieldPath
	}
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["reportingController"] = e.ReportingController
	set["source"] = source
	set["type"] = e.Type
}
