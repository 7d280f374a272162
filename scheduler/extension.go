package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Extension is a plugin of somebody's own: a rule, a score or both. Profiles name the extensions that they use. The functions must be pure: of a pod they may
// look at its namespace, labels, priority and specification, of a node at its name, labels, specification, allocatable resources and images, for
// decisions are kept as long as those stay the same.
type Extension struct {
	Name string
	// Filter is why a node does not take a pod, as users read it; empty if it does. No deletion of pods helps then. nil takes every node.
	Filter func(*corev1.Pod, *corev1.Node) string
	// Score is 0 to 100, higher is better; the profile's weight of the name counts, 1 if it gives none. nil scores nothing.
	Score func(*corev1.Pod, *corev1.Node) int64
}

// extend finds the extensions that a profile names.
func (p *Profile) extend(all []*Extension) error {
	for _, name := range p.Extensions {
		i := slices.IndexFunc(all, func(e *Extension) bool { return e.Name == name })
		if i < 0 {
			return fmt.Errorf("extensions: %s: this program has none of that name", name)
		}
		p.own = append(p.own, all[i])
		if _, ok := p.Weights[name]; !ok {
			p.Weights[name] = 1
		}
	}
	return nil
}

// foreign asks the profile's extensions whether they take a node; nil if all do.
func (c *class) foreign(node *corev1.Node) *refusal {
	for _, e := range c.profile.own {
		if e.Filter != nil {
			if why := e.Filter(c.pod, node); why != "" {
				return &refusal{e.Name, []string{why}, true}
			}
		}
	}
	return nil
}

// foreignScore is one extension's score of a node.
func (c *class) foreignScore(e *Extension, node *corev1.Node) int64 {
	if e.Score == nil {
		return 0
	}
	return min(max(e.Score(c.pod, node), 0), maxScore)
}

// foreignScores is the weighted sum of the extensions' scores.
func (c *class) foreignScores(node *corev1.Node) (sum int64) {
	for _, e := range c.profile.own {
		sum += c.profile.Weights[e.Name] * c.foreignScore(e, node)
	}
	return sum
}
