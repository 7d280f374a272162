package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reconcile/node/stats"
)

// ratePause is over how long a rate is measured at least; asked sooner, the last one is told again.
const ratePause = 5 * time.Second

// rates measures how fast counters of CPU time grow between one look and the next.
type rates struct {
	mu   sync.Mutex
	seen map[string]*growth
}

// growth is one counter: as it was, and how fast it grew then, in nanocores; known is false before two looks.
type growth struct {
	at    time.Time
	cpu   time.Duration
	rate  uint64
	known bool
}

// look notes counters by name and tells their rates; what is not among them is forgotten.
func (r *rates) look(now map[string]growth) map[string]*growth {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]*growth{}
	for name, g := range now {
		was := r.seen[name]
		switch {
		case was == nil || g.cpu < was.cpu:
			next[name] = &g
		case g.at.Sub(was.at) < ratePause:
			next[name] = was
		default:
			g.rate, g.known = uint64(float64(g.cpu-was.cpu)/g.at.Sub(was.at).Seconds()), true
			next[name] = &g
		}
	}
	r.seen = next
	return next
}

// Summary implements stream.Backend: what the machine, its disk, the pods and their containers use. A rate is over the time since somebody last asked,
// 5 s at least. Of what a kubelet tells besides there is no network and no volume, and no file system of a container.
func (a *Agent) Summary(ctx context.Context) (*statsapi.Summary, error) {
	all, err := a.measure(ctx)
	if err != nil {
		return nil, err
	}
	machine, err := stats.ReadUsage()
	if err != nil {
		return nil, fmt.Errorf("measure the machine: %w", err)
	}
	counters := map[string]growth{"": {at: machine.At, cpu: machine.CPU}}
	for _, m := range all {
		counters[string(m.of.UID)+"/"+m.container] = growth{at: m.At, cpu: m.CPU}
	}
	r := a.rates.look(counters)
	out := &statsapi.Summary{Node: a.nodeSummary(machine, r[""]), Pods: []statsapi.PodStats{}}
	for _, m := range all {
		g := r[string(m.of.UID)+"/"+m.container]
		c := statsapi.ContainerStats{Name: m.container, StartTime: metav1.NewTime(m.started), CPU: cpuStats(m.At, m.CPU, g), Memory: memoryStats(m.At, m.MemoryUsage, m.MemoryWorkingSet)}
		n := len(out.Pods)
		if n == 0 || out.Pods[n-1].PodRef.UID != string(m.of.UID) {
			p := statsapi.PodStats{PodRef: statsapi.PodReference{Name: m.pod, Namespace: m.namespace, UID: string(m.of.UID)}, StartTime: c.StartTime}
			if m.of.Status.StartTime != nil {
				p.StartTime = *m.of.Status.StartTime
			}
			out.Pods = append(out.Pods, p)
			n++
		}
		out.Pods[n-1].Containers = append(out.Pods[n-1].Containers, c)
	}
	for i, m := range podsOf(all) {
		p := &out.Pods[i]
		sum := &growth{known: true}
		for _, c := range p.Containers {
			g := r[p.PodRef.UID+"/"+c.Name]
			sum.rate, sum.known = sum.rate+g.rate, sum.known && g.known
		}
		p.CPU, p.Memory, p.ProcessStats = cpuStats(m.At, m.CPU, sum), memoryStats(m.At, m.MemoryUsage, m.MemoryWorkingSet), &statsapi.ProcessStats{ProcessCount: &m.Pids}
	}
	return out, nil
}

func (a *Agent) nodeSummary(u stats.Usage, g *growth) statsapi.NodeStats {
	usage, working := uint64(u.MemoryUsage), uint64(u.MemoryWorkingSet)
	n := statsapi.NodeStats{NodeName: a.cfg.NodeName, StartTime: metav1.NewTime(u.Boot), CPU: cpuStats(u.At, u.CPU, g), Memory: memoryStats(u.At, usage, working)}
	if total := uint64(a.machine().Memory); total > 0 {
		free := total - min(total, working)
		n.Memory.AvailableBytes = &free
	}
	if s, err := a.edges.Disk.Space(); err == nil {
		used, inodes := s.Total-min(s.Total, s.Free), s.Inodes-min(s.Inodes, s.InodesFree)
		n.Fs = &statsapi.FsStats{Time: metav1.NewTime(u.At), AvailableBytes: &s.Free, CapacityBytes: &s.Total, UsedBytes: &used, InodesFree: &s.InodesFree, Inodes: &s.Inodes, InodesUsed: &inodes}
	}
	return n
}

func cpuStats(at time.Time, cpu time.Duration, g *growth) *statsapi.CPUStats {
	total := uint64(max(0, cpu))
	out := &statsapi.CPUStats{Time: metav1.NewTime(at), UsageCoreNanoSeconds: &total}
	if g.known {
		rate := g.rate
		out.UsageNanoCores = &rate
	}
	return out
}

func memoryStats(at time.Time, usage, working uint64) *statsapi.MemoryStats {
	return &statsapi.MemoryStats{Time: metav1.NewTime(at), UsageBytes: &usage, WorkingSetBytes: &working}
}
