package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const maxScore = 100

// resourceScores are fitScore and balanced of a node, which are asked for more often than anything else: at once where the profile is as usual. w is
// of the profile.
func (p *Profile) resourceScores(w *pluginWeights, n *nodeState, d *demand) (fit, even int64) {
	a, u, asked := &n.allocatable, &n.used, &d.requests
	if !w.usual || a.cpu <= 0 || a.memory <= 0 || w.cpu <= 0 || w.memory <= 0 {
		return p.fitScore(n, d), p.balanced(n, d)
	}
	if left := a.cpu - n.usedScore.cpu - d.score.cpu; left >= 0 {
		fit = w.cpu * (left * maxScore / a.cpu)
	}
	if left := a.memory - n.usedScore.memory - d.score.memory; left >= 0 {
		fit += w.memory * (left * maxScore / a.memory)
	}
	fit /= w.cpu + w.memory
	if asked.cpu == 0 && asked.memory == 0 {
		return fit, 0
	}
	with := evennessOf(share(u.cpu+asked.cpu, a.cpu), share(u.memory+asked.memory, a.memory))
	return fit, maxScore/2 + (maxScore/2+with-evennessOf(share(u.cpu, a.cpu), share(u.memory, a.memory)))/2
}

// share is how much of what a node offers is used, 1 at most.
func share(used, offers int64) float64 { return min(float64(used)/float64(offers), 1) }

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
		a = append(a, share(used+asked, offers))
		b = append(b, share(used, offers))
	}
	if !asks {
		return 0
	}
	return maxScore/2 + (maxScore/2+evenness(a)-evenness(b))/2
}

// evennessOf is evenness of two shares.
func evennessOf(a, b float64) int64 { return int64((1 - math.Abs((a-b)/2)) * maxScore) }

// evenness is 100 less the standard deviation.
func evenness(f []float64) int64 {
	std := 0.0
	switch {
	case len(f) == 2:
		return evennessOf(f[0], f[1])
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
