package node

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/runtime"
	"reconcile/node/stats"
	"reconcile/object"
)

// measured is what one running container uses.
type measured struct {
	of                        *corev1.Pod
	namespace, pod, container string
	started                   time.Time
	runtime.Stats
}

// Metrics implements stream.Backend: what the machine and the containers use, in the text format of Prometheus, by the names of a kubelet's
// /metrics/resource. A pod's numbers are the sums of its containers'.
func (a *Agent) Metrics(ctx context.Context) ([]byte, error) {
	all, err := a.measure(ctx)
	if err != nil {
		return nil, err
	}
	machine, err := stats.ReadUsage()
	if err != nil {
		a.cfg.Log.Warn("cannot measure the machine", "err", err)
	}
	return exposition(machine, err == nil, all), nil
}

// Counters implements stream.Backend: the same as Metrics without what a sum or a help text adds, for the leader, which reads that of every node.
func (a *Agent) Counters(ctx context.Context) (*object.NodeCounters, error) {
	all, err := a.measure(ctx)
	if err != nil {
		return nil, err
	}
	out := &object.NodeCounters{Pods: []object.PodCounters{}}
	if machine, err := stats.ReadUsage(); err != nil {
		a.cfg.Log.Warn("cannot measure the machine", "err", err)
	} else {
		out.Machine = &object.Counters{At: machine.At.UnixMilli(), CPU: machine.CPU.Nanoseconds(), Memory: machine.MemoryWorkingSet}
	}
	for i, m := range all {
		if i == 0 || all[i-1].of.UID != m.of.UID {
			out.Pods = append(out.Pods, object.PodCounters{Namespace: m.namespace, Name: m.pod})
		}
		p := &out.Pods[len(out.Pods)-1]
		p.Containers = append(p.Containers, object.ContainerCounters{Name: m.container,
			Counters: object.Counters{At: m.At.UnixMilli(), Started: m.started.UnixMilli(), CPU: int64(m.CPU), Memory: int64(m.MemoryWorkingSet)}})
	}
	return out, nil
}

// measure is what each running container uses, in the order of pods.
func (a *Agent) measure(ctx context.Context) ([]measured, error) {
	list, err := a.edges.Runtime.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure the containers: %w", err)
	}
	var all []measured
	for _, c := range list {
		if c.State != runtime.Running {
			continue
		}
		a.mu.Lock()
		w := a.workers[c.Config.PodUID]
		a.mu.Unlock()
		if w == nil {
			continue
		}
		s, err := a.edges.Runtime.Stats(ctx, c.Config.ID)
		if err != nil {
			continue // it has just ended
		}
		p := w.wanted()
		all = append(all, measured{p, p.Namespace, p.Name, c.Config.Name, c.Started, s})
	}
	slices.SortFunc(all, func(x, y measured) int {
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.pod, y.pod), cmp.Compare(x.of.UID, y.of.UID), cmp.Compare(x.container, y.container))
	})
	return all, nil
}

// exposition writes the numbers (Prometheus' text format 0.0.4; times are in milliseconds).
func exposition(machine stats.Usage, whole bool, all []measured) []byte {
	var b bytes.Buffer
	family := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	line := func(name, labels string, value float64, at time.Time) {
		b.WriteString(name)
		b.WriteString(labels)
		b.WriteByte(' ')
		b.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
		if !at.IsZero() {
			b.WriteByte(' ')
			b.WriteString(strconv.FormatInt(at.UnixMilli(), 10))
		}
		b.WriteByte('\n')
	}
	of := func(m measured) string {
		return fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", m.container, m.namespace, m.pod)
	}
	family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds")
	for _, m := range all {
		line("container_cpu_usage_seconds_total", of(m), m.CPU.Seconds(), m.At)
	}
	family("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes")
	for _, m := range all {
		line("container_memory_working_set_bytes", of(m), float64(m.MemoryWorkingSet), m.At)
	}
	family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds")
	for _, m := range all {
		line("container_start_time_seconds", of(m), float64(m.started.UnixMilli())/1000, time.Time{})
	}
	pods := podsOf(all)
	family("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds")
	for _, m := range pods {
		line("pod_cpu_usage_seconds_total", fmt.Sprintf("{namespace=%q,pod=%q}", m.namespace, m.pod), m.CPU.Seconds(), m.At)
	}
	family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes")
	for _, m := range pods {
		line("pod_memory_working_set_bytes", fmt.Sprintf("{namespace=%q,pod=%q}", m.namespace, m.pod), float64(m.MemoryWorkingSet), m.At)
	}
	failed := 1.0
	if whole {
		failed = 0
		family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
		line("node_cpu_usage_seconds_total", "", machine.CPU.Seconds(), machine.At)
		family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
		line("node_memory_working_set_bytes", "", float64(machine.MemoryWorkingSet), machine.At)
	}
	family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	line("resource_scrape_error", "", failed, time.Time{})
	return b.Bytes()
}

// podsOf sums containers, which are in the order of their pods.
func podsOf(all []measured) []measured {
	var out []measured
	for _, m := range all {
		if n := len(out); n > 0 && out[n-1].of.UID == m.of.UID {
			out[n-1].CPU += m.CPU
			out[n-1].MemoryUsage += m.MemoryUsage
			out[n-1].MemoryWorkingSet += m.MemoryWorkingSet
			out[n-1].Pids += m.Pids
			continue
		}
		out = append(out, m)
	}
	return out
}
