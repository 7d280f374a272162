package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const maxScore = 100

// fitScore is NodeResourcesFit's score of a node for a demand.
func (p *Profile) fitScore(n *nodeState, d *demand) int64 {
	var sum, weights int64
	for _, r := range p.Resources {
		asked, used, offers := d.requests.of(r.Name), n.used.of(r.Name), n.allocatable.of(r.Name)
		switch r.Name {
		case corev1.ResourceCPU:
			asked, used = d.score.cpu, n.usedScore.cpu
		case corev1.ResourceMemory:
			asked, used = d.score.memory, n.usedScore.memory
		case corev1.ResourceEphemeralStorage:
		default:
			if asked == 0 {
				continue
			}
		}
		if offers == 0 {
			continue
		}
		one := p.share(used+asked, offers)
		if p.Fit == RequestedToCapacityRatio && one <= 0 {
			continue
		}
		sum += one * r.Weight
		weights += r.Weight
	}
	switch {
	case weights == 0:
		return 0
	case p.Fit == RequestedToCapacityRatio:
		return int64(math.Round(float64(sum) / float64(weights)))
	}
	return sum / weights
}

// share is the score of one resource of which so much would be used.
func (p *Profile) share(used, offers int64) int64 {
	switch p.Fit {
	case MostAllocated:
		return min(used, offers) * maxScore / offers
	case RequestedToCapacityRatio:
		if used > offers {
			return p.shape(maxScore)
		}
		return p.shape(used * maxScore / offers)
	}
	if used > offers {
		return 0
	}
	return (offers - used) * maxScore / offers
}

// shape is the broken line through the profile's points, which are scored out of ten.
func (p *Profile) shape(at int64) int64 {
	for i, q := range p.Shape {
		if at > q.Utilization {
			continue
		}
		if i == 0 {
			return q.Score * 10
		}
		a := p.Shape[i-1]
		return a.Score*10 + (q.Score*10-a.Score*10)*(at-a.Utilization)/(q.Utilization-a.Utilization)
	}
	return p.Shape[len(p.Shape)-1].Score * 10
}

// balanced is NodeResourcesBalancedAllocation's score: how much more, or less, alike the shares of the resources in use get. Pods that
// ask for nothing have none.
func (p *Profile) balanced(n *nodeState, d *demand) int64 {
	var with, without [8]float64
	a, b := with[:0], without[:0]
	asks := false
	for _, r := range p.Balanced {
		asked := d.requests.of(r.Name)
		asks = asks || asked != 0
		offers := n.allocatable.of(r.Name)
		if offers == 0 || asked == 0 && scalar(r.Name) {
			continue
		}
		used := n.used.of(r.Name)
		a = append(a, min(float64(used+asked)/float64(offers), 1))
		b = append(b, min(float64(used)/float64(offers), 1))
	}
	if !asks {
		return 0
	}
	return maxScore/2 + (maxScore/2+evenness(a)-evenness(b))/2
}

// evenness is 100 less the standard deviation.
func evenness(f []float64) int64 {
	std := 0.0
	switch {
	case len(f) == 2:
		std = math.Abs((f[0] - f[1]) / 2)
	case len(f) > 2:
		total := 0.0
		for _, x := range f {
			total += x
		}
		mean, sum := total/float64(len(f)), 0.0
		for _, x := range f {
			sum += (x - mean) * (x - mean)
		}
		std = math.Sqrt(sum / float64(len(f)))
	}
	return int64((1 - std) * maxScore)
}

// The sizes between which ImageLocality scores, a container.
const (
	minImages = 23 << 20
	maxImage  = 1000 << 20
)

// imageNames are the images that a pod needs, each as often as it does.
func imageNames(spec *corev1.PodSpec) (out []string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			out = append(out, fullImageName(list[i].Image))
		}
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			out = append(out, fullImageName(v.Reference))
		}
	}
	return out
}

// fullImageName adds the tag that a runtime takes if there is none.
func fullImageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// imageScore is ImageLocality's: the sizes of the images that are there, each the more the more nodes have it.
func (s *Snapshot) imageScore(n *nodeState, images []string, containers int) int64 {
	var sum int64
	for _, name := range images {
		if size, ok := n.images[name]; ok {
			sum += int64(float64(size) * (float64(s.images[name]) / float64(len(s.nodes))))
		}
	}
	top := maxImage * int64(containers)
	return maxScore * (min(max(sum, minImages), top) - minImages) / (top - minImages)
}
