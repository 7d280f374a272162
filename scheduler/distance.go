package scheduler

import corev1 "k8s.io/api/core/v1"

// The labels that Kubernetes recommends for what a pod is part of, and which of its parts it is.
const (
	labelPartOf = "app.kubernetes.io/part-of"
	labelPart   = "app.kubernetes.io/name"
)

// systemDistance are the topologies in which two pods are near each other: one host, one zone, one region.
func systemDistance() []string {
	return []string{corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion}
}

// addDistance makes the slots of NetworkDistance: each counts, by one topology, the other parts of the application that the class is a part of. A node
// has the more of them near it the more of the topologies it shares with each.
func (s *Snapshot) addDistance(c *class) {
	if c.profile.Weights[networkDistance] == 0 || c.pod.Labels[labelPartOf] == "" {
		return
	}
	for _, key := range c.profile.Distance {
		c.near = append(c.near, c.addSlot(newSlot(s.topology(key), nil)))
	}
}

// distanceEffects appends what a pod of the group adds to those slots.
func (c *class) distanceEffects(g *group, out []effect) []effect {
	own := c.pod.Labels
	if len(c.near) == 0 || g.terminating || g.namespace != c.pod.Namespace || g.labels[labelPartOf] != own[labelPartOf] || own[labelPart] != "" && g.labels[labelPart] == own[labelPart] {
		return out
	}
	for _, at := range c.near {
		out = append(out, effect{at, 1})
	}
	return out
}
