package scheduler

import (
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// large is a Source that knows the pods of each node.
type large struct {
	cluster
	on map[string][]*corev1.Pod
}

func (l *large) PodsOn(name string) iter.Seq[*corev1.Pod] { return slices.Values(l.on[name]) }
func (l *large) Unbound() iter.Seq[*corev1.Pod]           { return slices.Values(l.on[""]) }

// Get is quick for nodes.
func (l *large) Get(k object.Key) (object.Object, bool) {
	if k.Resource == "nodes" {
		at, err := strconv.Atoi(k.Name[1:])
		return l.nodes[at], err == nil
	}
	return l.cluster.Get(k)
}

// newLarge is so many nodes of 16 CPUs in three zones, each with so many pods of one owner.
func newLarge(nodes, each int, cpu string) *large {
	l := &large{on: map[string][]*corev1.Pod{}}
	for i := range nodes {
		n := node("n"+strconv.Itoa(i), "16", "64Gi", 110)
		n.Labels[corev1.LabelTopologyZone] = "z" + strconv.Itoa(i%3)
		l.nodes = append(l.nodes, n)
		for k := range each {
			p := pod("low", i*each+k, cpu, "")
			p.Spec.NodeName = n.Name
			p.Status.StartTime = &metav1.Time{Time: time.Unix(int64(1_000_000+i*each+k), 0)}
			l.on[n.Name] = append(l.on[n.Name], p)
		}
	}
	return l
}

func burst(owners, pods int, cpu string, priority int32) (out []*corev1.Pod) {
	for i := range pods {
		p := pod(fmt.Sprintf("new%d-", i%owners), i, cpu, "128Mi")
		p.Spec.Priority = &priority
		out = append(out, p)
	}
	return out
}

// cpu is what the process has used of the processors.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// kept is a snapshot that has read the source before, as the sequencer's has.
func kept(l *large) func() *Snapshot {
	var k Kept
	profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
	k.Bring(l, profiles, nil)
	k.Done()
	return func() *Snapshot { return k.Bring(l, profiles, nil) }
}

// each measures the processor time a thing of n, with what ready makes before and the garbage of that taken away.
func each(b *testing.B, n int, unit string, ready func() func()) {
	total := time.Duration(0)
	for range b.N {
		do := ready()
		runtime.GC()
		began := cpu(b)
		do()
		total += cpu(b) - began
	}
	b.ReportMetric(float64(total.Nanoseconds())/1e3/float64(b.N)/float64(n), unit)
	b.ReportMetric(0, "ns/op")
}

func placed(b *testing.B, list []Decision) {
	for _, d := range list {
		if d.Node == "" {
			b.Fatalf("%s: %s", d.Pod.Name, d.Message)
		}
	}
}

// BenchmarkBurst places 1,000 pods of two owners on 5,000 nodes with 20,000 pods: on a snapshot that is made for them, and on one that is kept.
func BenchmarkBurst(b *testing.B) {
	l, pods := newLarge(5000, 4, "100m"), burst(2, 1000, "100m", 0)
	b.Run("read anew", func(b *testing.B) {
		each(b, len(pods), "µs/pod", func() func() { return func() { placed(b, NewSnapshot(l).Schedule(pods)) } })
	})
	b.Run("kept", func(b *testing.B) {
		each(b, len(pods), "µs/pod", func() func() {
			bring := kept(l)
			return func() { placed(b, bring().Schedule(pods)) }
		})
	})
}

// BenchmarkOwnLabels places 5,000 pods of one owner on 1,000 nodes: like pods, and pods that have their index in a label, as an indexed Job's have.
func BenchmarkOwnLabels(b *testing.B) {
	l := newLarge(1000, 4, "100m")
	for _, own := range []bool{false, true} {
		pods := burst(1, 5000, "100m", 0)
		if own {
			for i, p := range pods {
				labelled(p, batchv1.JobCompletionIndexAnnotation, strconv.Itoa(i))
			}
		}
		b.Run(fmt.Sprintf("with labels of their own: %v", own), func(b *testing.B) {
			each(b, len(pods), "µs/pod", func() func() {
				bring := kept(l)
				return func() { placed(b, bring().Schedule(pods)) }
			})
		})
	}
}

// BenchmarkWaiting looks at 1,000 pods that fit on none of 5,000 nodes, and of which each asks for something else.
func BenchmarkWaiting(b *testing.B) {
	l := newLarge(5000, 4, "4")
	var pods []*corev1.Pod
	for i := range 1000 {
		pods = append(pods, pod("", i, fmt.Sprintf("%dm", 1000+i), "128Mi"))
	}
	each(b, len(pods), "µs/pod", func() func() {
		bring := kept(l)
		return func() {
			s := bring()
			if d := s.Schedule(pods); d[0].Node != "" || d[0].Message != d[999].Message {
				b.Fatal(d[0].Message)
			}
		}
	})
}

// BenchmarkPreemption has 200 pods of a high priority come to 5,000 full nodes.
func BenchmarkPreemption(b *testing.B) {
	l, pods := newLarge(5000, 4, "4"), burst(1, 200, "4", 100)
	each(b, len(pods), "µs/pod", func() func() {
		bring := kept(l)
		return func() {
			for _, d := range bring().Schedule(pods) {
				if len(d.Victims) != 1 {
					b.Fatalf("%s: %d victims: %s", d.Pod.Name, len(d.Victims), d.Message)
				}
			}
		}
	})
}

// BenchmarkExplain asks why a pod is not on each of so many nodes, or what it would score there, of a snapshot that is kept.
func BenchmarkExplain(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		for _, cpus := range []string{"4", "100m"} {
			b.Run(fmt.Sprintf("%d nodes with pods of %s", nodes, cpus), func(b *testing.B) {
				l, p := newLarge(nodes, 4, cpus), burst(1, 1, "4", 0)[0]
				each(b, 1, "µs", func() func() {
					bring := kept(l)
					return func() {
						if v := bring().Verdicts(p); len(v) != nodes || v[0].Fits != (cpus == "100m") {
							b.Fatal("wrong verdicts")
						}
					}
				})
			})
		}
	}
}
