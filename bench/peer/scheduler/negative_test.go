package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	ours "reconcile/scheduler"
)

// TestWrongIsCaught: what is said wrong on purpose differs from kube-scheduler's answers, so that a judge that finds nothing has looked. Each
// error must be found in most of the worlds where it can be made.
func TestWrongIsCaught(t *testing.T) {
	profile := defaultProfile(t)
	// The scores of another policy, or without a plugin, or with others' weights.
	profiles := map[string]func(*ours.Profile){
		"most allocated":               func(p *ours.Profile) { p.Fit = ours.MostAllocated },
		"no spreading":                 func(p *ours.Profile) { p.SystemDefaults = false },
		"no image locality":            func(p *ours.Profile) { p.Weights["ImageLocality"] = 0 },
		"taints weigh double":          func(p *ours.Profile) { p.Weights["TaintToleration"] = 6 },
		"hard affinity weighs nothing": func(p *ours.Profile) { p.HardPodAffinityWeight = 0 },
	}
	// Pods that are not the ones asked about.
	pods := map[string]func(*corev1.Pod){
		"no tolerations":    func(p *corev1.Pod) { p.Spec.Tolerations = nil },
		"no affinity":       func(p *corev1.Pod) { p.Spec.Affinity = nil },
		"no constraints":    func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints = nil },
		"no selector":       func(p *corev1.Pod) { p.Spec.NodeSelector = nil },
		"another namespace": func(p *corev1.Pod) { p.Namespace = "elsewhere" },
		"no labels":         func(p *corev1.Pod) { p.Labels = nil },
		"asks for nothing": func(p *corev1.Pod) {
			p.Spec.Containers, p.Spec.InitContainers, p.Spec.Overhead = p.Spec.Containers[:1], nil, nil
			p.Spec.Containers[0].Resources.Requests = nil
		},
		"no ports": func(p *corev1.Pod) {
			for i := range p.Spec.Containers {
				p.Spec.Containers[i].Ports = nil
			}
		},
	}
	found := map[string]int{}
	for seed := uint64(1); seed <= 150; seed++ {
		w := newWorld(seed)
		if w.storage {
			continue
		}
		p := newPeer(t, w, profile)
		for range 6 {
			pod := w.pod()
			theirs := p.answers(t, pod)
			for name, change := range profiles {
				wrong := ours.DefaultProfile()
				change(wrong)
				if differences(w, theirs, asAnswers(ours.NewSnapshotFor(w, ours.Profiles{"default-scheduler": wrong}).Verdicts(pod))) != "" {
					found[name]++
				}
			}
			for name, change := range pods {
				other := pod.DeepCopy()
				change(other)
				if differences(w, theirs, asAnswers(ours.NewSnapshot(w).Verdicts(other))) != "" {
					found[name]++
				}
			}
		}
		p.cancel()
	}
	for name := range profiles {
		if found[name] < 10 {
			t.Errorf("%s: found %d times in 900 pods", name, found[name])
		}
	}
	for name := range pods {
		if found[name] < 10 {
			t.Errorf("%s: found %d times in 900 pods", name, found[name])
		}
	}
	t.Log(found)
}
