package api

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"reconcile/object"
)

// fieldsOf returns how to read the fields that a field selector may name for a kind, and their names.
func fieldsOf(k object.Kind) (func(object.Object) fields.Set, map[string]bool) {
	more := moreFields[k.Resource]
	read := func(o object.Object) fields.Set {
		set := fields.Set{"metadata.name": o.GetName()}
		if k.Namespaced {
			set["metadata.namespace"] = o.GetNamespace()
		}
		if more != nil {
			more(o, set)
		}
		return set
	}
	known := map[string]bool{}
	for name := range read(k.New()) {
		known[name] = true
	}
	return read, known
}

// moreFields are the fields beyond name and namespace that Kubernetes lets a selector name, by resource. Each reader sets all its
// fields for any object of its kind.
var moreFields = map[string]func(object.Object, fields.Set){
	"pods": func(o object.Object, set fields.Set) {
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
	},
	"nodes": func(o object.Object, set fields.Set) {
		set["spec.unschedulable"] = strconv.FormatBool(o.(*corev1.Node).Spec.Unschedulable)
	},
	"namespaces": func(o object.Object, set fields.Set) {
		set["status.phase"] = string(o.(*corev1.Namespace).Status.Phase)
	},
	"secrets": func(o object.Object, set fields.Set) {
		set["type"] = string(o.(*corev1.Secret).Type)
	},
	"services": func(o object.Object, set fields.Set) {
		s := o.(*corev1.Service)
		set["spec.clusterIP"] = s.Spec.ClusterIP
		set["spec.type"] = string(s.Spec.Type)
	},
	"events": eventFields,
}

func eventFields(o object.Object, set fields.Set) {
	e := o.(*corev1.Event)
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	set["involvedObject.kind"] = e.InvolvedObject.Kind
	set["involvedObject.namespace"] = e.InvolvedObject.Namespace
	set["involvedObject.name"] = e.InvolvedObject.Name
	set["involvedObject.uid"] = string(e.InvolvedObject.UID)
	set["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	set["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	set["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = source
	set["type"] = e.Type
}
