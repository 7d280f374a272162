package object

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Row names objects that a View finds without a walk over all of their kind.
type Row string

// FreeVolumes are the PersistentVolumes of a class, empty for none, that name no claim.
func FreeVolumes(class string) Row { return Row("free/" + class) }

// VolumesFor are the PersistentVolumes that name a claim.
func VolumesFor(namespace, claim string) Row { return Row("for/" + namespace + "/" + claim) }

// OpenClaims are the PersistentVolumeClaims that have not been bound.
const OpenClaims Row = "open"

// UsersOf are the pods with a volume that is a claim, or would be if that is an ephemeral volume's.
func UsersOf(namespace, claim string) Row { return Row("users/" + namespace + "/" + claim) }

// SlicesOf are the EndpointSlices that say that they are a service's.
func SlicesOf(namespace, service string) Row { return Row("slices/" + namespace + "/" + service) }

// Measurable are the pods of a namespace that MayBeAsked tells.
func Measurable(namespace string) Row { return Row("measurable/" + namespace) }

// NodesTold are the nodes whose agents are told to keep what they read for so many seconds, as Kubernetes' ttl controller tells them; empty for those that were
// not told. They are counted.
func NodesTold(seconds string) Row {
	switch seconds {
	case "", "0", "15", "30", "60", "300":
		return Row("ttl/" + seconds)
	}
	return NodesToldElse
}

// NodesToldElse are the nodes that were told something else. They are counted.
const NodesToldElse Row = "ttl/else"

// NodesWithoutNetwork are the nodes that have no network for their pods.
const NodesWithoutNetwork Row = "netless"

// LostNodes are the nodes that have been ready or not and are not now, and those that are to be emptied for it.
const LostNodes Row = "lost"

// Counted tells whether a View knows how many nodes are in the row.
func (r Row) Counted() bool { return strings.HasPrefix(string(r), "ttl/") }

func nodeRows(n *corev1.Node) []Row {
	rows := []Row{NodesTold(n.Annotations[corev1.ObjectTTLAnnotationKey])}
	if n.Spec.PodCIDR == "" {
		rows = append(rows, NodesWithoutNetwork)
	}
	unready := func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
	}
	emptied := func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady)
	}
	if slices.ContainsFunc(n.Status.Conditions, unready) || slices.ContainsFunc(n.Spec.Taints, emptied) {
		rows = append(rows, LostNodes)
	}
	return rows
}

// MayBeAsked tells whether a pod runs and lets itself be asked for its metrics.
func MayBeAsked(p *corev1.Pod) bool {
	return p.Annotations[AnnotationScrape] == "true" && p.Spec.NodeName != "" && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil
}

// annotations of volumes and claims that the rows go by.
const (
	annotationClass = "volume.beta.kubernetes.io/storage-class"
	annotationBound = "pv.kubernetes.io/bind-completed"
)

// Rows are the rows that an object is in.
func Rows(o Object) []Row {
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		if ref := o.Spec.ClaimRef; ref != nil {
			return []Row{VolumesFor(ref.Namespace, ref.Name)}
		}
		class, ok := o.Annotations[annotationClass]
		if !ok {
			class = o.Spec.StorageClassName
		}
		return []Row{FreeVolumes(class)}
	case *corev1.PersistentVolumeClaim:
		if _, bound := o.Annotations[annotationBound]; !bound {
			return []Row{OpenClaims}
		}
	case *corev1.Pod:
		rows := usersRows(o)
		if MayBeAsked(o) {
			rows = append(rows, Measurable(o.Namespace))
		}
		return rows
	case *corev1.Node:
		return nodeRows(o)
	case *discoveryv1.EndpointSlice:
		if service := o.Labels[discoveryv1.LabelServiceName]; service != "" {
			return []Row{SlicesOf(o.Namespace, service)}
		}
	}
	return nil
}

func usersRows(p *corev1.Pod) []Row {
	var out []Row
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			out = append(out, UsersOf(p.Namespace, v.PersistentVolumeClaim.ClaimName))
		case v.Ephemeral != nil:
			out = append(out, UsersOf(p.Namespace, p.Name+"-"+v.Name))
		}
	}
	return out
}
