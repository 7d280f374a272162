package scheduler

import (
	"fmt"
	"strings"
)

// withoutNode says why a pod has no node, and for which it would help to delete others.
func (s *Snapshot) withoutNode(c *class, p *podState) Decision {
	d := Decision{Pod: p.pod}
	if len(s.nodes) == 0 {
		d.Message = "no nodes available to schedule pods"
		return d
	}
	if c.refused != "" && c.refusedAt == len(s.log) && !c.pinned {
		d.Message = c.refused
		return d
	}
	if c.all != nil {
		d.Message = fmt.Sprintf("0/%d nodes are available: %s.", len(s.nodes), strings.Join(c.all.reasons, ", "))
		return d
	}
	counts := map[string]int{}
	for at := range s.nodes {
		if r := s.refusalOf(c, p, int32(at)); r != nil {
			for _, reason := range r.reasons {
				counts[reason]++
			}
		}
	}
	d.Message = message(len(s.nodes), counts)
	c.refused, c.refusedAt = d.Message, len(s.log)
	return d
}
