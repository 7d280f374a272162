package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Strategy is how NodeResourcesFit scores a node, by Kubernetes' names.
type Strategy string

// The strategies of NodeResourcesFit.
const (
	LeastAllocated           Strategy = "LeastAllocated"
	MostAllocated            Strategy = "MostAllocated"
	RequestedToCapacityRatio Strategy = "RequestedToCapacityRatio"
)

// ResourceWeight is a resource that is scored, and its share.
type ResourceWeight struct {
	Name   corev1.ResourceName
	Weight int64
}

// ShapePoint is a point of RequestedToCapacityRatio's function: at Utilization percent, Score out of 10.
type ShapePoint struct{ Utilization, Score int64 }

// Profile is what a scheduler of one name does, with the meaning of KubeSchedulerConfiguration's arguments of the same names. It is
// not changed once in use.
type Profile struct {
	// Fit, Resources and Shape are NodeResourcesFit's scoringStrategy; Balanced are NodeResourcesBalancedAllocation's resources.
	Fit       Strategy
	Resources []ResourceWeight
	Shape     []ShapePoint
	Balanced  []ResourceWeight
	// Weights of the scoring plugins, by name; a plugin with none does not score.
	Weights map[string]int64
	// AddedAffinity must hold, and is preferred, besides what the pod says (NodeAffinity).
	AddedAffinity *corev1.NodeAffinity
	// DefaultConstraints are those of pods that name none (PodTopologySpread). SystemDefaults uses Kubernetes' own instead: soft
	// spreading over hosts (skew 3) and zones (skew 5).
	DefaultConstraints []corev1.TopologySpreadConstraint
	SystemDefaults     bool
	// HardPodAffinityWeight is what the required affinity of a pod that runs adds to the score of one that it wants
	// (InterPodAffinity).
	HardPodAffinityWeight int64
	// IgnorePreferredTermsOfExistingPods leaves such terms out of the score of a pod that has none itself.
	IgnorePreferredTermsOfExistingPods bool
}

// DefaultProfile is kube-scheduler's profile of the name default-scheduler.
func DefaultProfile() *Profile {
	both := []ResourceWeight{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}
	return &Profile{
		Fit: LeastAllocated, Resources: both, Balanced: slices.Clone(both),
		Weights: map[string]int64{taintToleration: 3, nodeAffinity: 2, nodeResourcesFit: 1, podTopologySpread: 2, interPodAffinity: 2,
			balancedAllocation: 1, imageLocality: 1},
		SystemDefaults:        true,
		HardPodAffinityWeight: 1,
	}
}

// systemConstraints are Kubernetes' default constraints (plugins/podtopologyspread).
func systemConstraints() []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{
		{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
		{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
	}
}

// defaults are the constraints of a pod that names none.
func (p *Profile) defaults() []corev1.TopologySpreadConstraint {
	if p.SystemDefaults {
		return systemConstraints()
	}
	return p.DefaultConstraints
}
