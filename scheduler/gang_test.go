package scheduler

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGang: pods of a group are placed together or not at all, with those that run already, and leave their room to others while they wait.
func TestGang(t *testing.T) {
	member := func(i, least int) *corev1.Pod {
		p := running(fmt.Sprintf("g%d", i), "", "1", 5, 0)
		p.Labels = map[string]string{LabelGang: "g", LabelGangMin: fmt.Sprint(least)}
		return p
	}
	gang := func(n, least int) (out []*corev1.Pod) {
		for i := range n {
			out = append(out, member(i, least))
		}
		return out
	}
	// Two nodes of two CPUs; one is half full of what is less important.
	base := func() *cluster {
		return &cluster{nodes: []*corev1.Node{node("n1", "2", "8Gi", 10), node("n2", "2", "8Gi", 10)}, pods: []*corev1.Pod{running("low1", "n1", "1", 0, 0)}}
	}
	for _, tc := range []struct {
		name   string
		c      *cluster
		pods   []*corev1.Pod
		placed string
		says   string
	}{
		{"all fit", base(), gang(3, 3), "g0 g1 g2", ""},
		{"one too many, and nobody is deleted for it", base(), append(gang(4, 4), running("other1", "", "1", 0, 0)), "other1",
			"pod group g needs 4 pods at once, and 3 find a place: 0/2 nodes are available: 2 Insufficient cpu."},
		{"more than must be", base(), gang(4, 3), "g0 g1 g2", "0/2 nodes are available: 2 Insufficient cpu."},
		{"not all are there yet", base(), gang(2, 3), "", "pod group g needs 3 pods at once, and 2 find a place: there are 2 pods of it"},
		{"one runs already", func() *cluster {
			c := base()
			p := member(9, 3)
			p.Spec.NodeName = "n2"
			c.pods = append(c.pods, p)
			return c
		}(), gang(2, 3), "g0 g1", ""},
		{"a number that cannot be read is none", base(), func() []*corev1.Pod {
			p := member(0, 0)
			p.Labels[LabelGangMin] = "all"
			return []*corev1.Pod{p}
		}(), "g0", ""},
		{"an urgent pod in between", base(), []*corev1.Pod{member(0, 2), running("high1", "", "1", 9, 0), member(1, 2)}, "g0 g1 high1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var placed []string
			says := ""
			list := NewSnapshot(tc.c).Schedule(tc.pods)
			for _, d := range list {
				if len(d.Victims) > 0 || d.Nominated != "" {
					t.Errorf("%s has victims", d.Pod.Name)
				}
				if d.Node != "" {
					placed = append(placed, d.Pod.Name)
				} else if strings.HasPrefix(d.Pod.Name, "g") {
					says = d.Message
				}
			}
			if got := strings.Join(placed, " "); got != tc.placed || says != tc.says || len(list) != len(tc.pods) {
				t.Errorf("placed %q, says %q, %d decisions", got, says, len(list))
			}
		})
	}
}

// TestGangIsSpared: of a gang that runs, no pod is deleted for another as long as others can be; if one has to go and too few are left, all of them go, on
// whatever node they are.
func TestGangIsSpared(t *testing.T) {
	member := func(i int, node string, priority int32) *corev1.Pod {
		p := running(fmt.Sprintf("g%d", i), node, "2", priority, i)
		p.Labels = map[string]string{LabelGang: "g", LabelGangMin: "2"}
		return p
	}
	nodes := []*corev1.Node{node("n1", "2", "8Gi", 10), node("n2", "2", "8Gi", 10), node("n3", "2", "8Gi", 10)}
	needsThree := func(p *corev1.Pod) *corev1.Pod {
		p.Labels[LabelGangMin] = "3"
		return p
	}
	going := member(2, "n3", 0)
	going.DeletionTimestamp = &metav1.Time{}
	for _, tc := range []struct {
		name, nominated, victims string
		pods                     []*corev1.Pod
	}{
		// The third pod is more important than the gang and started first: but for the gang it would be the last to go.
		{"others go first", "n3", "other1", []*corev1.Pod{member(0, "n1", 0), member(1, "n2", 0), running("other1", "n3", "2", 3, 0)}},
		{"all go", "n2", "g1 g0", []*corev1.Pod{member(0, "n1", 0), member(1, "n2", 0), running("other1", "n3", "2", 9, 0)}},
		{"all of lower priority go", "n2", "g1", []*corev1.Pod{member(0, "n1", 7), member(1, "n2", 0), running("other1", "n3", "2", 9, 0)}},
		{"one is more than needed", "n3", "g2", []*corev1.Pod{member(0, "n1", 0), member(1, "n2", 0), member(2, "n3", 0)}},
		{"one that goes is no member any more", "n2", "g1 g0", []*corev1.Pod{member(0, "n1", 0), member(1, "n2", 0), running("other1", "n3", "1", 9, 0), going}},
		{"the greatest number that one of them names counts", "n3", "g2 g0 g1", []*corev1.Pod{member(0, "n1", 0), needsThree(member(1, "n2", 0)), member(2, "n3", 0)}},
		{"too few anyway", "n1", "g0", []*corev1.Pod{member(0, "n1", 0), running("other1", "n2", "2", 3, 0), running("other2", "n3", "2", 9, 0)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &cluster{nodes: nodes, pods: tc.pods}
			d := NewSnapshot(c).Schedule([]*corev1.Pod{running("high1", "", "2", 5, 0)})[0]
			if d.Nominated != tc.nominated || podNames(d.Victims) != tc.victims {
				t.Errorf("nominated to %s without %s, want %s without %s: %s", d.Nominated, podNames(d.Victims), tc.nominated, tc.victims, d.Message)
			}
		})
	}
}
