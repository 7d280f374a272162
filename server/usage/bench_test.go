package usage

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// processorTime is what this process has used: other programs that run beside a benchmark change it little.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRound is one round over 5,000 nodes of 30 pods with two containers each, whose agents answer at once: what the leader itself spends each 15 s.
func BenchmarkRound(b *testing.B) {
	const nodes, pods = 5000, 30
	l := newLab(b)
	l.nodes = nil
	for n := range nodes {
		l.nodes = append(l.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", n)}})
	}
	tell := func(at int) {
		for n := range nodes {
			var containers []string
			for p := range pods {
				for _, c := range []string{"a", "b"} {
					containers = append(containers, fmt.Sprintf("p%d-%d/%s %d 1048576 1", n, p, c, at))
				}
			}
			l.answers[l.nodes[n].Name] = text(at, float64(at), containers...)
		}
	}
	tell(1000)
	l.round(b.Context())
	tell(1015)
	before := l.before
	b.ReportAllocs()
	began := processorTime(b)
	for b.Loop() {
		l.before = before
		l.round(b.Context())
	}
	b.ReportMetric(float64((processorTime(b)-began).Milliseconds())/float64(b.N), "cpu-ms/op")
	if got := len(l.Table().pods); got != nodes*pods {
		b.Fatalf("%d pods were measured, want %d", got, nodes*pods)
	}
}

// BenchmarkScrape is one round of a Scraper over 5,000 nodes of which each has 10 pods that somebody wants three metrics of.
func BenchmarkScrape(b *testing.B) {
	const nodes, pods = 5000, 10
	f := newField(b)
	f.wanted = map[string][]object.PodQuery{}
	queries := []object.MetricQuery{{Name: "jobs"}, {Name: "requests"}, {Name: "errors", Selector: "code=500"}}
	at := time.Unix(1000, 0)
	for n := range nodes {
		node := fmt.Sprintf("n%d", n)
		for p := range pods {
			f.wanted[node] = append(f.wanted[node], object.PodQuery{Namespace: "default", Name: fmt.Sprintf("p%d-%d", n, p), Queries: queries})
		}
	}
	f.cfg.Ask = func(_ context.Context, _ string, _ time.Duration, asked []object.PodQuery) ([]object.PodSamples, error) {
		out := make([]object.PodSamples, len(asked))
		for i := range out {
			out[i] = object.PodSamples{At: at, Samples: []object.Sample{{MetricQuery: queries[0], Value: 1}, {MetricQuery: queries[1], Counter: true, Value: float64(at.Unix())}, {MetricQuery: queries[2], Counter: true, Value: 1}}}
		}
		return out, nil
	}
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(15 * time.Second)
		f.round(b.Context())
	}
	if got := len(f.before); got != nodes*pods*2 {
		b.Fatalf("%d counters are kept, want %d", got, nodes*pods*2)
	}
}
