package scrape

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// TestRound: however many pods hang, a round is over when whoever asks has waited enough; those that answer are never behind those that hung twice, and
// each of these has its turn.
func TestRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hang, answer, wait = 100, 20, 8 * time.Second
		var asks []Ask
		for i := range hang + answer { // those that answer are the last
			name := fmt.Sprintf("p%d", i)
			asks = append(asks, Ask{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}})
		}
		s := New()
		defer s.Close()
		var mu sync.Mutex
		turns := map[string]int{}
		hangs := func(p *corev1.Pod) bool { return slices.IndexFunc(asks, func(a Ask) bool { return a.Pod == p }) < hang }
		s.pod = func(ctx context.Context, p *corev1.Pod, _ []object.MetricQuery) (object.PodSamples, bool) {
			out, pause := object.PodSamples{Namespace: p.Namespace, Name: p.Name}, 10*time.Millisecond
			if hangs(p) {
				pause = Patience
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			if hangs(p) || ctx.Err() != nil {
				out.Fault = "late"
				mu.Lock()
				turns[p.Name]++
				mu.Unlock()
			}
			return out, out.Fault != ""
		}
		for round := range 12 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			began := time.Now()
			got := s.Round(ctx, asks)
			cancel()
			if took := time.Since(began); took > wait {
				t.Errorf("round %d took %s", round, took)
			}
			if round == 0 && len(turns) != 2*atOnce {
				t.Errorf("%d pods that hang were asked in a time that is enough for %d", len(turns), 2*atOnce)
			}
			answered := 0
			for i, a := range got {
				if a.Name != asks[i].Pod.Name || a.Namespace != "ns" {
					t.Fatalf("round %d: answer %d is of %s", round, i, a.Name)
				}
				if i >= hang && a.Fault == "" {
					answered++
				}
				if i < hang && a.Fault != "late" && !strings.HasPrefix(a.Fault, "it was not asked: ") {
					t.Errorf("round %d: %s hangs, and is told as %q", round, a.Name, a.Fault)
				}
			}
			if round >= 6 && answered != answer {
				t.Errorf("round %d: %d of %d pods had their answers", round, answered, answer)
			}
		}
		for _, a := range asks[:hang] {
			if turns[a.Pod.Name] == 0 {
				t.Errorf("%s was never asked", a.Pod.Name)
			}
		}
	})
}
