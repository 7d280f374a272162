package table

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

var nodes = Printer{
	Columns: []Column{
		nameColumn,
		text("Status", "Whether the node is ready, and whether pods may be bound to it."),
		text("Roles", "Roles of the node, from its labels."),
		ageColumn,
		text("Version", "Version of the node's agent."),
		wide(text("Internal-IP", "Address within the cluster's network.")),
		wide(text("External-IP", "Address outside the cluster.")),
		wide(text("OS-Image", "Operating system.")),
		wide(text("Kernel-Version", "Kernel.")),
		wide(text("Container-Runtime", "Container runtime and its version.")),
	},
	Row: func(o object.Object, now time.Time) []any {
		n := o.(*corev1.Node)
		info := n.Status.NodeInfo
		return []any{
			n.Name, nodeStatus(n), nodeRoles(n), ageOf(n, now), info.KubeletVersion,
			nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
			unknownIfEmpty(info.OSImage), kernelText(info), unknownIfEmpty(info.ContainerRuntimeVersion),
		}
	},
}

func nodeStatus(n *corev1.Node) string {
	words := []string{"Unknown"}
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			words[0] = "Ready"
		} else {
			words[0] = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		words = append(words, "SchedulingDisabled")
	}
	return strings.Join(words, ",")
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, rolePrefix); ok && role != "" {
			roles = append(roles, role)
		} else if k == roleLabel && v != "" {
			roles = append(roles, v)
		}
	}
	slices.Sort(roles)
	return orNone(strings.Join(slices.Compact(roles), ","))
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

func unknownIfEmpty(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

// kernelText is the kernel's version with the machine's architecture.
func kernelText(info corev1.NodeSystemInfo) string {
	v := unknownIfEmpty(info.KernelVersion)
	if info.Architecture != "" {
		v += " (" + info.Architecture + ")"
	}
	return v
}
