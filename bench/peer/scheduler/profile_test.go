package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"

	ours "reconcile/scheduler"
)

// TestProfiles: both say the same under other arguments of the plugins too.
func TestProfiles(t *testing.T) {
	args := func(p *config.KubeSchedulerProfile, name string, change func(any)) {
		for i := range p.PluginConfig {
			if p.PluginConfig[i].Name == name {
				change(p.PluginConfig[i].Args)
			}
		}
	}
	shape := []config.UtilizationShapePoint{{Utilization: 0, Score: 0}, {Utilization: 70, Score: 10}, {Utilization: 100, Score: 3}}
	weights := []config.ResourceSpec{{Name: "cpu", Weight: 3}, {Name: "memory", Weight: 1}, {Name: "hugepages-2Mi", Weight: 5}, {Name: "ephemeral-storage", Weight: 1}}
	ourWeights := []ours.ResourceWeight{{Name: "cpu", Weight: 3}, {Name: "memory", Weight: 1}, {Name: "hugepages-2Mi", Weight: 5}, {Name: "ephemeral-storage", Weight: 1}}
	added := &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "size", Operator: "Gt", Values: []string{"2"}}}}}},
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 5, Preference: corev1.NodeSelectorTerm{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: "In", Values: []string{"ssd"}}}}}}}
	constraints := []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway},
		{MaxSkew: 2, TopologyKey: "rack", WhenUnsatisfiable: corev1.DoNotSchedule}}
	for _, tc := range []struct {
		name   string
		theirs func(*config.KubeSchedulerProfile)
		ours   func(*ours.Profile)
	}{
		{"MostAllocated", func(p *config.KubeSchedulerProfile) {
			args(p, "NodeResourcesFit", func(a any) {
				a.(*config.NodeResourcesFitArgs).ScoringStrategy = &config.ScoringStrategy{Type: config.MostAllocated, Resources: weights}
			})
			args(p, "NodeResourcesBalancedAllocation", func(a any) { a.(*config.NodeResourcesBalancedAllocationArgs).Resources = balancedSpecs })
		}, func(p *ours.Profile) {
			p.Fit, p.Resources, p.Balanced = ours.MostAllocated, ourWeights, balancedWeights
		}},
		{"RequestedToCapacityRatio", func(p *config.KubeSchedulerProfile) {
			args(p, "NodeResourcesFit", func(a any) {
				a.(*config.NodeResourcesFitArgs).ScoringStrategy = &config.ScoringStrategy{Type: config.RequestedToCapacityRatio, Resources: weights,
					RequestedToCapacityRatio: &config.RequestedToCapacityRatioParam{Shape: shape}}
			})
		}, func(p *ours.Profile) {
			p.Fit, p.Resources, p.Shape = ours.RequestedToCapacityRatio, ourWeights, []ours.ShapePoint{{Utilization: 0, Score: 0}, {Utilization: 70, Score: 10}, {Utilization: 100, Score: 3}}
		}},
		{"addedAffinity", func(p *config.KubeSchedulerProfile) {
			args(p, "NodeAffinity", func(a any) { a.(*config.NodeAffinityArgs).AddedAffinity = added })
		}, func(p *ours.Profile) { p.AddedAffinity = added }},
		{"default constraints", func(p *config.KubeSchedulerProfile) {
			args(p, "PodTopologySpread", func(a any) {
				s := a.(*config.PodTopologySpreadArgs)
				s.DefaultingType, s.DefaultConstraints = config.ListDefaulting, constraints
			})
		}, func(p *ours.Profile) { p.SystemDefaults, p.DefaultConstraints = false, constraints }},
		{"affinity of others", func(p *config.KubeSchedulerProfile) {
			args(p, "InterPodAffinity", func(a any) {
				s := a.(*config.InterPodAffinityArgs)
				s.HardPodAffinityWeight, s.IgnorePreferredTermsOfExistingPods = 7, true
			})
		}, func(p *ours.Profile) { p.HardPodAffinityWeight, p.IgnorePreferredTermsOfExistingPods = 7, true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			theirs, we := defaultProfile(t), ours.DefaultProfile()
			tc.theirs(theirs)
			tc.ours(we)
			done := 0
			for seed := firstSeed(t); done < pairs(t)/5; seed++ {
				w := newWorld(seed)
				if w.storage {
					continue
				}
				p := newPeer(t, w, theirs)
				s := ours.NewSnapshotFor(w, ours.Profiles{"default-scheduler": we})
				for range 8 {
					pod := w.pod()
					if text := differences(w, p.answers(t, pod), asAnswers(s.Verdicts(pod))); text != "" {
						t.Fatalf("JUDGE_SEED=%d, pod %s:\n%s\n%s", seed, pod.Name, text, describe(pod))
					}
					done += len(w.nodes)
				}
				p.cancel()
			}
		})
	}
}

var (
	balancedSpecs   = []config.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}, {Name: "hugepages-2Mi", Weight: 1}}
	balancedWeights = []ours.ResourceWeight{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}, {Name: "hugepages-2Mi", Weight: 1}}
)
