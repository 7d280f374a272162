package scheduler

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"

	ours "reconcile/scheduler"
)

// preempting is kube-scheduler's DefaultPreemption over the peer's framework.
func (p *peer) preempting(t testing.TB) *defaultpreemption.DefaultPreemption {
	args := &config.DefaultPreemptionArgs{MinCandidateNodesPercentage: 100, MinCandidateNodesAbsolute: 100}
	pl, err := defaultpreemption.New(p.ctx, runtime.Object(args), p.Framework, feature.Features{})
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

// outcome is what a preemption comes to: the victims by node, and the message if there are none.
type outcome struct {
	nodes   map[string]string // victims, and how many of them are protected
	best    preemption.Candidate
	all     map[string]preemption.Candidate
	message string
}

// preempt is kube-scheduler's outcome for a pod that fits nowhere.
func (p *peer) preempt(t testing.TB, pod *corev1.Pod, a attempt) outcome {
	out := outcome{nodes: map[string]string{}, all: map[string]preemption.Candidate{}}
	pl := p.preempting(t)
	if err := p.index(pod); err != nil {
		t.Fatal(err)
	}
	infos := p.lister.NodeInfos()
	eligible, _ := pl.PodEligibleToPreemptOthers(p.ctx, pod, a.diagnosis.NodeToStatus.Get(pod.Status.NominatedNodeName))
	var candidates []preemption.Candidate
	if eligible {
		nodes, err := a.diagnosis.NodeToStatus.NodesForStatusCode(infos, fwk.Unschedulable)
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) > 0 {
			var budgets []*policyv1.PodDisruptionBudget
			for _, o := range p.w.others {
				if b, ok := o.(*policyv1.PodDisruptionBudget); ok {
					budgets = append(budgets, b)
				}
			}
			if candidates, _, err = pl.Evaluator.DryRunPreemption(p.ctx, a.state, pod, nodes, budgets, 0, int32(len(nodes))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range candidates {
		out.nodes[c.Name()] = victims(c.Victims().Pods, int(c.Victims().NumPDBViolations))
		out.all[c.Name()] = c
	}
	if len(candidates) > 0 {
		out.best = pl.Evaluator.SelectCandidate(p.ctx, candidates)
		return out
	}
	_, status := pl.PostFilter(p.ctx, a.state, pod, a.diagnosis.NodeToStatus)
	a.diagnosis.PostFilterMsg = status.Message()
	out.message = (&framework.FitError{Pod: pod, NumAllNodes: len(p.w.nodes), Diagnosis: a.diagnosis}).Error()
	return out
}

func victims(pods []*corev1.Pod, protected int) string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	return fmt.Sprintf("%s (%d protected)", strings.Join(names, " "), protected)
}

// rank is what kube-scheduler chooses a node by, as text of which the least comes first: of equal ones it takes any.
func rank(c preemption.Candidate) string {
	v := c.Victims()
	top, sum, earliest := int64(-1<<31), int64(0), int64(1<<62)
	for _, p := range v.Pods {
		k := int64(0)
		if p.Spec.Priority != nil {
			k = int64(*p.Spec.Priority)
		}
		sum += k + 1<<31
		switch at := p.Status.StartTime.UnixNano(); {
		case k > top:
			top, earliest = k, at
		case k == top:
			earliest = min(earliest, at)
		}
	}
	return fmt.Sprintf("%d %d %d %d %d", v.NumPDBViolations, top, sum, len(v.Pods), -earliest)
}

// preemptions is how many preemptors are judged.
func preemptions(t testing.TB) int {
	text := os.Getenv("JUDGE_PREEMPTIONS")
	if text == "" {
		return 2_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("JUDGE_PREEMPTIONS: %v", err)
	}
	return n
}

// TestPreemption: for pods that fit nowhere, both find the same victims on every node, choose the same node (or an equal one), and say the same
// where nothing helps.
func TestPreemption(t *testing.T) {
	want, seed := preemptions(t), firstSeed(t)
	profile := defaultProfile(t)
	done, helped := 0, 0
	for ; done < want; seed++ {
		w := newWorld(seed)
		if w.storage {
			continue
		}
		p := newPeer(t, w, profile)
		for range 12 {
			pod := w.preemptor()
			_, a := p.try(t, pod)
			if a.fit {
				continue
			}
			done++
			theirs := p.preempt(t, pod, a)
			s := ours.NewSnapshot(w)
			nodes := map[string]string{}
			for _, x := range s.Preemptions(pod) {
				if len(x.Victims) > 0 {
					nodes[x.Node] = victims(x.Victims, x.Violations)
				}
			}
			d := s.Schedule([]*corev1.Pod{pod})[0]
			if text := theirs.differs(nodes, d); text != "" {
				t.Fatalf("JUDGE_SEED=%d, pod %s of priority %v: %s\n%s", seed, pod.Name, *pod.Spec.Priority, text, describe(pod))
			}
			if d.Nominated != "" {
				helped++
			}
		}
		p.cancel()
	}
	t.Logf("%d preemptors alike, %d of them helped", done, helped)
}

// differs tells in what ours is not theirs.
func (o outcome) differs(nodes map[string]string, d ours.Decision) string {
	if len(o.all) > 0 && d.Message == "" {
		return fmt.Sprintf("ours places the pod on %s", d.Node)
	}
	for name, v := range o.nodes {
		if len(o.all) > 0 && nodes[name] != v {
			return fmt.Sprintf("on %s kube-scheduler would delete %s, ours %s", name, v, nodes[name])
		}
	}
	for name, v := range nodes {
		if len(o.all) > 0 && o.nodes[name] != v {
			return fmt.Sprintf("on %s ours would delete %s, kube-scheduler %s", name, v, o.nodes[name])
		}
	}
	if len(o.all) == 0 {
		if d.Nominated != "" {
			return fmt.Sprintf("ours nominates %s, kube-scheduler says %s", d.Nominated, o.message)
		}
		if d.Message != o.message {
			return fmt.Sprintf("kube-scheduler says\n  %s\nours says\n  %s", o.message, d.Message)
		}
		return ""
	}
	mine, ok := o.all[d.Nominated]
	if !ok || rank(mine) != rank(o.best) {
		return fmt.Sprintf("kube-scheduler nominates %s, ours %s (%s)", o.best.Name(), d.Nominated, d.Message)
	}
	return ""
}

// preemptor draws a pod of a high priority that asks for much, or wants to be far from others.
func (w *world) preemptor() *corev1.Pod {
	p := w.pod()
	priority := int32(10 + w.IntN(4)*10)
	p.Spec.Priority = &priority
	if w.one(12) {
		no := corev1.PreemptNever
		p.Spec.PreemptionPolicy = &no
	}
	if w.one(2) {
		p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		p.Spec.NodeSelector = nil
	}
	if w.one(6) && len(w.nodes) > 0 {
		p.Status.NominatedNodeName = w.nodes[w.IntN(len(w.nodes))].Name
		for _, q := range w.pods {
			if q.Spec.NodeName == p.Status.NominatedNodeName && q.DeletionTimestamp != nil && !slices.ContainsFunc(q.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget }) && w.one(2) {
				q.Status.Conditions = append(q.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler})
			}
		}
	}
	return p
}
