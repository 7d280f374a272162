package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// text is an agent's answer: each entry is "POD/CONTAINER CPUSECONDS BYTES STARTED", all at a time in seconds; the machine has used cpu.
func text(at int, cpu float64, containers ...string) []byte {
	told := object.NodeCounters{Machine: &object.Counters{At: int64(at) * 1000, CPU: int64(cpu * 1e9), Memory: 5e9}}
	for _, c := range containers {
		var name string
		var used, memory, started float64
		if n, err := fmt.Sscan(c, &name, &used, &memory, &started); n < 4 {
			panic(err)
		}
		pod, ctr, _ := strings.Cut(name, "/")
		if n := len(told.Pods); n == 0 || told.Pods[n-1].Name != pod {
			told.Pods = append(told.Pods, object.PodCounters{Namespace: "default", Name: pod})
		}
		p := &told.Pods[len(told.Pods)-1]
		p.Containers = append(p.Containers, object.ContainerCounters{Name: ctr,
			Counters: object.Counters{At: int64(at) * 1000, Started: int64(started * 1000), CPU: int64(used * 1e9), Memory: int64(memory)}})
	}
	b, err := json.Marshal(told)
	if err != nil {
		panic(err)
	}
	return b
}

// lab is a collector of agents that say what the test says.
type lab struct {
	*Collector
	nodes   []*corev1.Node
	answers map[string][]byte
}

func newLab(t testing.TB) *lab {
	l := &lab{answers: map[string][]byte{}}
	var err error
	l.Collector, err = New(Config{Nodes: func() []*corev1.Node { return l.nodes }, Log: slog.New(slog.DiscardHandler), Ask: func(_ context.Context, n *corev1.Node) ([]byte, error) {
		if b, ok := l.answers[n.Name]; ok {
			return b, nil
		}
		return nil, errors.New("away")
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n1", "n2"} {
		l.nodes = append(l.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return l
}

// pod shows what a pod uses: "CONTAINER=CPU,MEMORY … over WINDOW".
func (l *lab) pod(name string) string {
	u, ok := l.Table().Usage(object.Key{Resource: "pods", Namespace: "default", Name: name})
	if !ok {
		return "-"
	}
	return show(u)
}

func show(u object.Usage) string {
	var out []string
	for _, c := range []string{"", "a", "b"} {
		if used, ok := u.Containers[c]; ok {
			out = append(out, fmt.Sprintf("%s=%s,%s", c, used.Cpu(), used.Memory()))
		}
	}
	return fmt.Sprintf("%s over %s at %d", strings.Join(out, " "), u.Window, u.At.Unix())
}

func TestRates(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answers["n1"] = text(1000, 50, "old/a 100 1048576 1", "two/a 5 10 1", "two/b 5 10 1", "again/a 9 10 1", "fresh/a 6 10 988", "baby/a 1 10 995", "half/a 1 -1 1")
	l.answers["n2"] = text(1000, 10)
	l.round(t.Context())
	// A first sample says something only of what began a while ago, and not long ago.
	for pod, want := range map[string]string{"old": "-", "two": "-", "again": "-", "fresh": "a=500m,10 over 12s at 1000", "baby": "-", "half": "-"} {
		if got := l.pod(pod); got != want {
			t.Errorf("after one round %s uses %s, want %s", pod, got, want)
		}
	}
	if _, ok := l.Table().Node("n1"); ok {
		t.Error("a machine was measured by one sample")
	}
	// b of two has started again: it ran for 4 s. n2 does not answer.
	l.answers["n1"] = text(1020, 60, "old/a 101 1048576 1", "two/a 6 10 1", "two/b 1 10 1016", "again/a 3 10 1008", "baby/a 11 20 995", "half/a 2 -1 1")
	delete(l.answers, "n2")
	l.round(t.Context())
	for pod, want := range map[string]string{"old": "a=50m,1Mi over 20s at 1020", "two": "-", "again": "a=250m,10 over 12s at 1020", "fresh": "-", "baby": "a=500m,20 over 20s at 1020", "half": "-"} {
		if got := l.pod(pod); got != want {
			t.Errorf("after two rounds %s uses %s, want %s", pod, got, want)
		}
	}
	if u, ok := l.Table().Node("n1"); !ok || show(u) != "=500m,5e9 over 20s at 1020" && show(u) != "=500m,5000000000 over 20s at 1020" {
		t.Errorf("n1 uses %s (%v)", show(u), ok)
	}
	if _, ok := l.Table().Node("n2"); ok {
		t.Error("a machine that does not answer was measured")
	}
	l.answers["n1"] = text(1035, 62, "two/a 9 10 1", "two/b 4 10 1016")
	l.round(t.Context())
	if got, want := l.pod("two"), "a=200m,10 b=200m,10 over 15s at 1035"; got != want {
		t.Errorf("two uses %s, want %s", got, want)
	}
	// What another server is told is the same.
	b, err := json.Marshal(l.Table())
	var told Table
	if err == nil {
		err = json.Unmarshal(b, &told)
	}
	u, ok := told.Usage(object.Key{Resource: "pods", Namespace: "default", Name: "two"})
	if n, has := told.Node("n1"); err != nil || !ok || !has || show(u) != l.pod("two") || n.Window != 15*time.Second {
		t.Errorf("told %s: %s %v %v", b, show(u), ok, err)
	}
	// Who leads no more knows nothing, and measures anew when it does.
	l.nodes = nil
	l.round(t.Context())
	if l.Table() != nil || l.pod("two") != "-" {
		t.Error("a server that does not lead knows what pods use")
	}
}

// FuzzParse: whatever an agent says, it is read or refused, and no amount is negative.
func FuzzParse(f *testing.F) {
	f.Add(text(1000, 50, "old/a 100 1048576 1"))
	f.Add([]byte(`{"machine":{"cpu":-1},"pods":[{"name":"b","containers":[{"name":"x"},{"name":"x","cpu":9223372036854775807}]},{"name":"a"},{"name":"b","containers":[{"name":"a"}]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := parse(in)
		if err != nil {
			return
		}
		table := newTable(nil)
		table.add("n", got, got)
		table.add("n", &scraped{}, got)
		for pod := range table.pods {
			u, _ := table.Usage(pod)
			for c, used := range u.Containers {
				if used.Cpu().Sign() < 0 || used.Memory().Sign() < 0 || u.Window <= 0 {
					t.Errorf("%s/%s uses %v over %s", pod, c, used, u.Window)
				}
			}
		}
	})
}
