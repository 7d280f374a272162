package scheduler

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// The labels of a gang, as the coscheduling plugin of Kubernetes' SIG Scheduling spells them: the pods of a namespace that name one group run
// together or not at all, and how many of them that is.
const (
	LabelGang    = "pod-group.scheduling.sigs.k8s.io/name"
	LabelGangMin = "pod-group.scheduling.sigs.k8s.io/min-available"
)

// gang is the pods to be placed of one group.
type gang struct {
	namespace, name string
	least           int // as many as must run at once
	pods            []*corev1.Pod
}

// gangOf is the group of a pod, nil if it has none. A number that cannot be read asks for one pod, which is no gang.
func gangOf(p *corev1.Pod) *gang {
	name := p.Labels[LabelGang]
	least, err := strconv.Atoi(p.Labels[LabelGangMin])
	if name == "" || err != nil || least < 2 {
		return nil
	}
	return &gang{namespace: p.Namespace, name: name, least: least}
}

// is tells whether a pod is of the gang.
func (g *gang) is(namespace string, l map[string]string) bool {
	return namespace == g.namespace && l[LabelGang] == g.name
}

// gangs puts the pods of each gang together, where the first of them is.
func gangs(pods []*corev1.Pod) (out []*gang) {
	byName := map[[2]string]*gang{}
	for _, p := range pods {
		g := gangOf(p)
		if g == nil {
			out = append(out, &gang{pods: []*corev1.Pod{p}})
			continue
		}
		key := [2]string{g.namespace, g.name}
		if byName[key] == nil {
			byName[key] = g
			out = append(out, g)
		}
		byName[key].pods = append(byName[key].pods, p)
		byName[key].least = max(byName[key].least, g.least)
	}
	return out
}

// scheduleGang places the pods of a gang if as many as must run at once find a place, with those that run already; if not, none. Nobody is
// deleted for a gang.
func (s *Snapshot) scheduleGang(g *gang) []Decision {
	out := make([]Decision, len(g.pods))
	running := s.running(g)
	type placed struct {
		at int32
		p  *podState
	}
	var done []placed
	why := ""
	for i, pod := range g.pods {
		out[i].Pod = pod
		c := s.classOf(pod)
		p := &podState{pod: pod, demand: c.demand, group: c.group}
		at := s.find(c, p)
		if at < 0 {
			if why == "" {
				why = s.reasons(c, p)
			}
			continue
		}
		s.settleOn(p, at)
		done = append(done, placed{at, p})
		out[i].Node = s.nodes[at].node.Name
	}
	if running+len(done) >= g.least {
		for i := range out {
			if out[i].Node == "" {
				out[i].Message = why
			}
		}
		return out
	}
	slices.Reverse(done)
	for _, d := range done {
		s.take(d.at, d.p)
	}
	if why == "" {
		why = fmt.Sprintf("there are %d pods of it", running+len(g.pods))
	}
	for i := range out {
		out[i].Node = ""
		out[i].Message = fmt.Sprintf("pod group %s needs %d pods at once, and %d find a place: %s", g.name, g.least, running+len(done), why)
		out[i].Unnominate = g.pods[i].Status.NominatedNodeName != ""
	}
	return out
}

// running counts the pods of a gang that are on nodes and stay.
func (s *Snapshot) running(g *gang) (n int) {
	for _, group := range s.groups.all {
		if group.terminating || !g.is(group.namespace, group.labels) {
			continue
		}
		for _, count := range group.on {
			n += int(count)
		}
	}
	return n
}

// reasons are why no node takes a pod, in kube-scheduler's words, without a thought of deleting others.
func (s *Snapshot) reasons(c *class, p *podState) string {
	counts := map[string]int{}
	for i := range s.nodes {
		if r := s.refusalOf(c, p, int32(i)); r != nil {
			for _, text := range r.reasons {
				counts[text]++
			}
		}
	}
	return message(len(s.nodes), counts)
}
