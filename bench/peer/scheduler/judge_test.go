package scheduler

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	ours "reconcile/scheduler"
)

// pairs is how many (node, pod) pairs are judged.
func pairs(t testing.TB) int {
	text := os.Getenv("JUDGE_PAIRS")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("JUDGE_PAIRS: %v", err)
	}
	return n
}

// firstSeed is where drawing begins.
func firstSeed(t testing.TB) uint64 {
	text := os.Getenv("JUDGE_SEED")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("JUDGE_SEED: %v", err)
	}
	return n
}

// TestAnswers: both say the same of every pod on every node. JUDGE_SEED=N JUDGE_PAIRS=1 plays one world again.
func TestAnswers(t *testing.T) {
	want, seed := pairs(t), firstSeed(t)
	profile := defaultProfile(t)
	done, refused, fit := 0, map[string]int{}, 0
	for ; done < want; seed++ {
		w := newWorld(seed)
		p := newPeer(t, w, profile)
		s := ours.NewSnapshot(w)
		for range 12 {
			pod := w.pod()
			theirs, we := p.answers(t, pod), asAnswers(s.Verdicts(pod))
			for i := range theirs {
				if theirs[i].plugin == "" {
					fit++
				} else {
					refused[theirs[i].plugin]++
				}
			}
			if text := differences(w, theirs, we); text != "" {
				t.Fatalf("JUDGE_SEED=%d, pod %s:\n%s\n%s", seed, pod.Name, text, describe(pod))
			}
			done += len(w.nodes)
			d := s.Schedule([]*corev1.Pod{pod})[0]
			if d.Nominated != "" {
				s = ours.NewSnapshot(w) // preemption has a course of its own; here nobody was deleted
			}
			if d.Node != "" {
				if i := slices.IndexFunc(w.nodes, func(n *corev1.Node) bool { return n.Name == d.Node }); !isBest(theirs, i) {
					t.Fatalf("JUDGE_SEED=%d: %s is placed on %s, which is not the best: %v", seed, pod.Name, d.Node, theirs)
				}
				pod.Spec.NodeName = d.Node
				w.pods = append(w.pods, pod)
				p.refresh()
			}
		}
		p.cancel()
	}
	t.Logf("%d pairs alike, %d fit, refused by %v", done, fit, refused)
}

// isBest tells whether no other node has a higher sum of scores.
func isBest(a []answer, at int) bool {
	sum := func(x answer) (n int64) {
		if x.plugin != "" {
			return -1
		}
		for _, s := range x.scores {
			n += s
		}
		return n
	}
	return a[at].plugin == "" && !slices.ContainsFunc(a, func(x answer) bool { return sum(x) > sum(a[at]) })
}

func asAnswers(list []ours.Verdict) []answer {
	out := make([]answer, len(list))
	for i, v := range list {
		reasons := slices.Clone(v.Reasons)
		slices.Sort(reasons)
		out[i] = answer{plugin: v.Plugin, reasons: strings.Join(reasons, ", "), final: v.Unresolvable}
		if v.Fits {
			out[i].scores = map[string]int64{}
			for _, s := range v.Scores {
				out[i].scores[s.Plugin] = s.Score * s.Weight
			}
		}
	}
	return out
}

// differences names the nodes of which two say different things.
func differences(w *world, theirs, we []answer) string {
	var out strings.Builder
	for i := range theirs {
		a, b := theirs[i], we[i]
		same := a.plugin == b.plugin && a.reasons == b.reasons && a.final == b.final
		for name, n := range a.scores {
			same = same && b.scores[name] == n
		}
		for name, n := range b.scores {
			same = same && a.scores[name] == n // a plugin that is skipped scores nothing
		}
		if !same {
			fmt.Fprintf(&out, "  %s: kube-scheduler says %v\n      ours says %v\n", w.nodes[i].Name, a, b)
		}
	}
	return out.String()
}

func describe(p *corev1.Pod) (text string) {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			text += fmt.Sprintf("%s (restart %v): %v %v\n", c.Name, c.RestartPolicy != nil, c.Resources.Requests, c.Ports)
		}
	}
	return text + fmt.Sprintf("of the pod %v, overhead %v, labels %v, namespace %s, affinity %v, constraints %v, tolerations %v, volumes %v", p.Spec.Resources, p.Spec.Overhead, p.Labels, p.Namespace, p.Spec.Affinity,
		p.Spec.TopologySpreadConstraints, p.Spec.Tolerations, p.Spec.Volumes)
}
