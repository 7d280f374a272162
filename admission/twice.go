package admission

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// keptTwice fills in the fields that Kubernetes keeps under two names, and takes away what it no longer keeps, as its conversions to internal types and
// back do: the account of a pod, the addresses of a pod and of a node, the types of a stateful set's claims. It changes o.
func keptTwice(o object.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		oneAccount(&o.Spec)
		o.Annotations = withoutInitContainers(o.Annotations)
		if s := o.Spec.TerminationGracePeriodSeconds; s != nil && *s < 0 {
			one := int64(1)
			o.Spec.TerminationGracePeriodSeconds = &one
		}
		podAddresses(&o.Status)
	case *corev1.Node:
		nodeRanges(&o.Spec)
	case *appsv1.StatefulSet:
		for i := range o.Spec.VolumeClaimTemplates {
			o.Spec.VolumeClaimTemplates[i].APIVersion, o.Spec.VolumeClaimTemplates[i].Kind = "v1", "PersistentVolumeClaim"
		}
	}
	if t := object.PodTemplate(o); t != nil {
		oneAccount(&t.Spec)
		t.Annotations = withoutInitContainers(t.Annotations)
	}
}

// oneAccount makes the account's old name say what its new one says.
func oneAccount(s *corev1.PodSpec) {
	if s.ServiceAccountName == "" {
		s.ServiceAccountName = s.DeprecatedServiceAccount
	}
	s.DeprecatedServiceAccount = s.ServiceAccountName
}

// podAddresses makes the address and the addresses agree; the single one decides.
func podAddresses(s *corev1.PodStatus) {
	switch {
	case s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP):
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	case s.PodIP == "" && len(s.PodIPs) > 0:
		s.PodIP = s.PodIPs[0].IP
	}
}

// nodeRanges does the same for the ranges of a node's pods.
func nodeRanges(s *corev1.NodeSpec) {
	switch {
	case s.PodCIDR != "" && (len(s.PodCIDRs) == 0 || s.PodCIDRs[0] != s.PodCIDR):
		s.PodCIDRs = []string{s.PodCIDR}
	case s.PodCIDR == "" && len(s.PodCIDRs) > 0:
		s.PodCIDR = s.PodCIDRs[0]
	}
}

// initContainerNotes are the annotations in which init containers were written before they had a field.
var initContainerNotes = [...]string{
	"pod.beta.kubernetes.io/init-containers", "pod.alpha.kubernetes.io/init-containers",
	"pod.beta.kubernetes.io/init-container-statuses", "pod.alpha.kubernetes.io/init-container-statuses",
}

// withoutInitContainers returns notes without those; it does not change them.
func withoutInitContainers(notes map[string]string) map[string]string {
	out := notes
	for _, name := range initContainerNotes {
		if _, ok := notes[name]; !ok {
			continue
		}
		if len(out) == len(notes) {
			out = maps.Clone(notes)
		}
		delete(out, name)
	}
	return out
}
