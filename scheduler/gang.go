package scheduler

import (
	"fmt"
	"math"
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

// gangKey names a gang.
type gangKey struct{ namespace, name string }

// gang is the pods to be placed of one group.
type gang struct {
	gangKey
	least int // as many as must run at once
	pods  []*corev1.Pod
}

// runningGang is the pods of a gang that are on nodes.
type runningGang struct {
	members []gangMember
}

// gangMember is a group of a gang's pods, and as how many they say that must run at once.
type gangMember struct {
	*group
	least int
}

// gangOf is the group of a pod, nil if it has none. A number that cannot be read asks for one pod, which is no gang.
func gangOf(p *corev1.Pod) *gang {
	name := p.Labels[LabelGang]
	least, err := strconv.Atoi(p.Labels[LabelGangMin])
	if name == "" || err != nil || least < 2 {
		return nil
	}
	return &gang{gangKey: gangKey{p.Namespace, name}, least: least}
}

// gangs puts the pods of each gang together, where the first of them is.
func gangs(pods []*corev1.Pod) (out []*gang) {
	byName := map[gangKey]*gang{}
	for _, p := range pods {
		g := gangOf(p)
		if g == nil {
			out = append(out, &gang{pods: []*corev1.Pod{p}})
			continue
		}
		key := g.gangKey
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
func (s *Snapshot) running(g *gang) int {
	if r := s.groups.gangs[g.gangKey]; r != nil {
		n, _ := r.staying()
		return n
	}
	return 0
}

// joins adds a new group of pods to its gang; nil if it is of none.
func (g *groups) joins(pod *corev1.Pod, r *group) *runningGang {
	of := gangOf(pod)
	if of == nil {
		return nil
	}
	out := g.gangs[of.gangKey]
	if out == nil {
		out = &runningGang{}
		g.gangs[of.gangKey] = out
	}
	out.members = append(out.members, gangMember{r, of.least})
	return out
}

// staying counts the pods that are not going, and tells how many must run at once.
func (g *runningGang) staying() (n, least int) {
	for _, m := range g.members {
		if m.terminating || len(m.on) == 0 {
			continue
		}
		least = max(least, m.least)
		for _, count := range m.on {
			n += int(count)
		}
	}
	return n, least
}

// spare is how many of its pods the gang can do without; one that has too few anyway can do without all.
func (g *runningGang) spare() int {
	if n, least := g.staying(); n >= least {
		return n - least
	}
	return math.MaxInt
}

// gangChanged makes what would have to go from nodes be asked again if the pod is of a gang: how many of that can be spared may be another number.
func (s *Snapshot) gangChanged(p *podState) {
	if p.group.gang != nil {
		s.budgetsVersion++
	}
}

// rest are the pods of lower priority that are of no more use without the victims: those of gangs that fall below their number by it.
func (s *Snapshot) rest(victims []*podState, priority int32) (out []place) {
	gone := map[*runningGang]int{}
	for _, q := range victims {
		if q.group.gang != nil && !q.group.terminating {
			gone[q.group.gang]++
		}
	}
	for g, n := range gone {
		if n <= g.spare() {
			continue
		}
		for _, r := range g.members {
			if r.terminating {
				continue
			}
			for at := range r.on {
				for _, q := range s.nodes[at].pods {
					if q.group == r.group && priorityOf(q.pod) < priority && !slices.Contains(victims, q) {
						out = append(out, place{podState: q, at: at})
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b place) int { return importance(a.podState, b.podState) })
	return out
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
