package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"reconcile/object"
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
	Name   corev1.ResourceName `json:"name"`
	Weight int64               `json:"weight"`
}

// ShapePoint is a point of RequestedToCapacityRatio's function: at Utilization percent, Score out of 10.
type ShapePoint struct {
	Utilization int64 `json:"utilization"`
	Score       int64 `json:"score"`
}

// Profile is what a scheduler of one name does, with the meaning of KubeSchedulerConfiguration's arguments of the same names. It is
// not changed once in use.
type Profile struct {
	// Fit, Resources and Shape are NodeResourcesFit's scoringStrategy; Balanced are NodeResourcesBalancedAllocation's resources.
	Fit       Strategy         `json:"scoringStrategy"`
	Resources []ResourceWeight `json:"resources"`
	Shape     []ShapePoint     `json:"shape"`
	Balanced  []ResourceWeight `json:"balancedResources"`
	// Weights of the scoring plugins, by name; a plugin with none does not score.
	Weights map[string]int64 `json:"weights"`
	// AddedAffinity must hold, and is preferred, besides what the pod says (NodeAffinity).
	AddedAffinity *corev1.NodeAffinity `json:"addedAffinity"`
	// DefaultConstraints are those of pods that name none (PodTopologySpread). SystemDefaults uses Kubernetes' own instead: soft
	// spreading over hosts (skew 3) and zones (skew 5).
	DefaultConstraints []corev1.TopologySpreadConstraint `json:"defaultConstraints"`
	SystemDefaults     bool                              `json:"systemDefaults"`
	// HardPodAffinityWeight is what the required affinity of a pod that runs adds to the score of one that it wants
	// (InterPodAffinity).
	HardPodAffinityWeight int64 `json:"hardPodAffinityWeight"`
	// IgnorePreferredTermsOfExistingPods leaves such terms out of the score of a pod that has none itself.
	IgnorePreferredTermsOfExistingPods bool `json:"ignorePreferredTermsOfExistingPods"`
	// Distance are the topology labels by which NetworkDistance tells how near two pods are.
	Distance []string `json:"distance"`
	// Extensions are the names of those that filter and score besides.
	Extensions []string `json:"extensions"`
	own        []*Extension
}

// DefaultProfile is kube-scheduler's profile of the name default-scheduler.
func DefaultProfile() *Profile {
	both := []ResourceWeight{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}
	return &Profile{
		Fit: LeastAllocated, Resources: both, Balanced: slices.Clone(both),
		Weights: map[string]int64{taintToleration: 3, nodeAffinity: 2, nodeResourcesFit: 1, podTopologySpread: 2, interPodAffinity: 2,
			balancedAllocation: 1, imageLocality: 1},
		SystemDefaults:        true,
		Distance:              systemDistance(),
		HardPodAffinityWeight: 1,
	}
}

// Profiles are the schedulers that there are, by the name that pods give as schedulerName. Pods of another name are left to others.
type Profiles map[string]*Profile

// ProfilesKey is the ConfigMap that profiles are read from. It comes from git like all else, so that a plan schedules as the push does.
var ProfilesKey = object.Key{Resource: "configmaps", Namespace: "kube-system", Name: "scheduler-profiles"}

// ReadProfiles reads the profiles of a cluster: one a key of the ConfigMap ProfilesKey, named by the key, as YAML with the fields of
// Profile; what is left out is as in DefaultProfile. default-scheduler is there in any case. The error names the keys that cannot be read,
// whose profiles are left out. extensions are those that profiles may name.
func ReadProfiles(src Classes, extensions ...*Extension) (Profiles, error) {
	out := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
	o, ok := src.Get(ProfilesKey)
	if !ok {
		return out, nil
	}
	var faults []error
	m, _ := o.(*corev1.ConfigMap)
	for _, name := range slices.Sorted(maps.Keys(m.Data)) {
		p := DefaultProfile()
		if err := yaml.UnmarshalStrict([]byte(m.Data[name]), p); err != nil {
			faults = append(faults, &ProfileError{Name: name, Err: err})
			continue
		}
		if err := errors.Join(p.extend(extensions), p.Validate()); err != nil {
			faults = append(faults, &ProfileError{Name: name, Err: err})
			continue
		}
		out[name] = p
	}
	return out, errors.Join(faults...)
}

// ProfileError is why a profile cannot be used.
type ProfileError struct {
	Name string // the key of ProfilesKey
	Err  error
}

// Error tells what the matter is, and what follows.
func (e *ProfileError) Error() string {
	return fmt.Sprintf("the scheduler profile %s of %s is left out, and pods with that schedulerName wait: %v", e.Name, ProfilesKey, e.Err)
}

// Unwrap gives the fault itself.
func (e *ProfileError) Unwrap() error { return e.Err }

// ProfileFaults are the faults of an error of ReadProfiles, by profile.
func ProfileFaults(err error) (out []*ProfileError) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	for _, e := range joined.Unwrap() {
		if p := (*ProfileError)(nil); errors.As(e, &p) {
			out = append(out, p)
		}
	}
	return out
}

// Of is the profile of a pod, and whether there is one of its schedulerName.
func (p Profiles) Of(pod *corev1.Pod) (*Profile, bool) {
	name := pod.Spec.SchedulerName
	if name == "" {
		name = corev1.DefaultSchedulerName
	}
	out, ok := p[name]
	return out, ok
}

// Validate lists all faults of a profile.
func (p *Profile) Validate() error {
	var faults []error
	switch p.Fit {
	case LeastAllocated, MostAllocated:
	case RequestedToCapacityRatio:
		if len(p.Shape) == 0 || !slices.IsSortedFunc(p.Shape, func(a, b ShapePoint) int { return cmp.Compare(a.Utilization, b.Utilization) }) {
			faults = append(faults, errors.New("shape: want points of rising utilization"))
		}
	default:
		faults = append(faults, fmt.Errorf("scoringStrategy %q: want LeastAllocated, MostAllocated or RequestedToCapacityRatio", p.Fit))
	}
	for _, list := range [][]ResourceWeight{p.Resources, p.Balanced} {
		for _, r := range list {
			if r.Weight < 1 || r.Weight > maxScore {
				faults = append(faults, fmt.Errorf("the weight of %s is %d: want 1 to 100", r.Name, r.Weight))
			}
		}
	}
	known := DefaultProfile().Weights
	known[measuredLoad], known[networkDistance] = 0, 0
	for _, name := range p.Extensions {
		known[name] = 0
	}
	for _, name := range slices.Sorted(maps.Keys(p.Weights)) {
		if _, ok := known[name]; !ok || p.Weights[name] < 0 || p.Weights[name] > maxScore {
			faults = append(faults, fmt.Errorf("weights: %s: %d: want a plugin that scores, and 0 to 100", name, p.Weights[name]))
		}
	}
	return errors.Join(faults...)
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
