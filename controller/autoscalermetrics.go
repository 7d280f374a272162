package controller

import (
	"errors"
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"reconcile/object"
)

// Kubernetes' defaults: how far usage may be off before anything is done, how long a pod's first CPU samples count for nothing, and until
// when after its start a pod that is not ready has never been.
const (
	usageTolerance  = 0.1
	cpuWarmUp       = 5 * time.Minute
	firstReadyDelay = 30 * time.Second
)

// UsageView is a View that also tells what pods were measured to use. A View that is none stands for a cluster in which nothing measures.
type UsageView interface {
	// Usage is the last measurement of a pod; false if there is none.
	Usage(pod object.Key) (object.Usage, bool)
}

// metricError is why a metric gives no size: the condition's reason and text, and what Kubernetes' event puts before the text.
type metricError struct {
	reason, prefix string
	err            error
}

// sample is what one pod uses, in thousandths.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// one is the size that one metric asks for, and the metric's name in messages.
func (s *scaling) one(m *autoscalingv2.MetricSpec, status *autoscalingv2.MetricStatus) (int32, string, *metricError) {
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		n, name, current, err := s.resource(m.Resource.Name, "", &m.Resource.Target)
		if err != nil {
			return 0, "", &metricError{"FailedGetResourceMetric", fmt.Sprintf("failed to get %s resource metric value: ", m.Resource.Name), err}
		}
		*status = autoscalingv2.MetricStatus{Type: m.Type, Resource: &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: *current}}
		return n, name, nil
	case autoscalingv2.ContainerResourceMetricSourceType:
		c := m.ContainerResource
		n, name, current, err := s.resource(c.Name, c.Container, &c.Target)
		if err != nil {
			return 0, "", &metricError{"FailedGetContainerResourceMetric", fmt.Sprintf("failed to get %s container metric value: ", c.Container), err}
		}
		*status = autoscalingv2.MetricStatus{Type: m.Type, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: c.Name, Container: c.Container, Current: *current}}
		return n, name, nil
	case autoscalingv2.PodsMetricSourceType:
		return s.podsMetric(m.Pods, status)
	case autoscalingv2.ObjectMetricSourceType:
		return s.objectMetric(m.Object, status)
	case autoscalingv2.ExternalMetricSourceType:
		return s.externalMetric(m.External, status)
	}
	return 0, "", &metricError{"InvalidMetricSourceType", "", fmt.Errorf("unknown metric source type %q", m.Type)}
}

// errNoResourceMetrics is what Kubernetes says where nobody serves the metrics API.
var errNoResourceMetrics = errors.New("the server could not find the requested resource (get pods.metrics.k8s.io)")

// resource is the size by what pods, or one container of each, use of a resource.
func (s *scaling) resource(name corev1.ResourceName, container string, target *autoscalingv2.MetricTarget) (n int32, metric string, current *autoscalingv2.MetricValueStatus, err error) {
	if target.AverageValue == nil && target.AverageUtilization == nil {
		return 0, "", nil, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	what := "utilization"
	if target.AverageValue != nil {
		what = "usage"
	}
	fail := func(err error) (int32, string, *autoscalingv2.MetricValueStatus, error) {
		return 0, "", nil, fmt.Errorf("failed to get %s %s: %w", name, what, err)
	}
	samples, err := s.samples(name, container)
	if err != nil {
		return fail(fmt.Errorf("unable to get metrics for resource %s: %w", name, err))
	}
	c := calculation{now: s.now, pods: s.pods, current: s.replicas, samples: samples, resource: name, up: s.tolerance(true), down: s.tolerance(false)}
	if target.AverageValue != nil {
		c.want = target.AverageValue.MilliValue()
	} else {
		c.percent = *target.AverageUtilization
		metric = fmt.Sprintf("%s resource utilization (percentage of request)", name)
		if container != "" {
			metric = fmt.Sprintf("%s container resource utilization (percentage of request)", name)
		}
	}
	if n, err = c.run(container); err != nil {
		return fail(err)
	}
	format := kresource.DecimalSI
	if name == corev1.ResourceMemory {
		format = kresource.BinarySI
	}
	current = &autoscalingv2.MetricValueStatus{AverageValue: kresource.NewMilliQuantity(c.average, format)}
	if target.AverageValue != nil {
		return n, string(name) + " resource", current, nil
	}
	current.AverageUtilization = &c.utilization
	return n, metric, current, nil
}

// samples is what the selected pods use of a resource. A pod of which a container was not measured has none.
func (s *scaling) samples(name corev1.ResourceName, container string) (map[string]sample, error) {
	view, ok := s.v.(UsageView)
	if !ok {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", errNoResourceMetrics)
	}
	out, measured := map[string]sample{}, 0
	for _, p := range s.pods {
		u, ok := view.Usage(object.KeyOf(p))
		if !ok {
			continue
		}
		measured++
		sum, whole := int64(0), len(u.Containers) > 0
		for c, used := range u.Containers {
			if container != "" && c != container {
				continue
			}
			q, ok := used[name]
			whole = whole && ok
			sum += q.MilliValue()
		}
		if _, has := u.Containers[container]; whole && (has || container == "") {
			out[p.Name] = sample{sum, u.At, u.Window}
		}
	}
	if measured == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	return out, nil
}

// tolerance is how far usage may be above or below the target without anything being done.
func (s *scaling) tolerance(up bool) float64 {
	b := s.hpa.Spec.Behavior
	if b == nil {
		return usageTolerance
	}
	rules := b.ScaleDown
	if up {
		rules = b.ScaleUp
	}
	if rules == nil || rules.Tolerance == nil {
		return usageTolerance
	}
	return rules.Tolerance.AsApproximateFloat64()
}

// calculation is how many pods one resource asks for. Either percent, a share of requests, is set, or want, an average in thousandths.
type calculation struct {
	now      time.Time
	pods     []*corev1.Pod
	current  int32
	samples  map[string]sample
	resource corev1.ResourceName
	percent  int32
	want     int64
	up, down float64

	// requests is what each pod asks for, in thousandths, if percent is set.
	requests map[string]int64
	// What the pods use: on average, and of their requests.
	average     int64
	utilization int32
}

// run computes the size. Pods that are not ready count for nothing when the size grows, pods that were not measured for nothing when it
// grows and as using all of their target when it shrinks; what that leaves of a change never goes the other way.
func (c *calculation) run(container string) (int32, error) {
	if len(c.pods) == 0 {
		return 0, errors.New("no pods returned by selector while calculating replica count")
	}
	ready, unready, missing := c.group()
	if len(c.samples) == 0 {
		return 0, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	if c.percent > 0 {
		if err := c.ask(container); err != nil {
			return 0, err
		}
	}
	ratio, average, utilization, err := c.ratio()
	if err != nil {
		return 0, err
	}
	c.average, c.utilization = average, utilization
	grows := len(unready) > 0 && ratio > 1
	if !grows && len(missing) == 0 {
		if c.within(ratio) {
			return c.current, nil
		}
		return atMost(ratio * float64(ready)), nil
	}
	c.assume(ratio, missing, unready, grows)
	again, _, _, err := c.ratio()
	if err != nil {
		return 0, err
	}
	if c.within(again) || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return c.current, nil
	}
	n := atMost(again * float64(len(c.samples)))
	if again < 1 && n > c.current || again > 1 && n < c.current {
		return c.current, nil
	}
	return n, nil
}

func (c *calculation) within(ratio float64) bool { return 1-c.down <= ratio && ratio <= 1+c.up }

// assume gives samples to pods that have none or whose own counts for nothing.
func (c *calculation) assume(ratio float64, missing, unready []string, grows bool) {
	for _, name := range missing {
		switch {
		case ratio < 1 && c.percent > 0:
			c.samples[name] = sample{value: c.requests[name] * int64(max(100, c.percent)) / 100}
		case ratio < 1:
			c.samples[name] = sample{value: c.want}
		case ratio > 1:
			c.samples[name] = sample{}
		}
	}
	if grows {
		for _, name := range unready {
			c.samples[name] = sample{}
		}
	}
}

// group takes the samples away that do not count, and tells how many pods do, which are not ready and which were not measured.
func (c *calculation) group() (ready int, unready, missing []string) {
	for _, p := range c.pods {
		got, found := c.samples[p.Name]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed:
			delete(c.samples, p.Name)
		case p.Status.Phase == corev1.PodPending:
			delete(c.samples, p.Name)
			unready = append(unready, p.Name)
		case !found:
			missing = append(missing, p.Name)
		case c.resource == corev1.ResourceCPU && c.warmsUp(p, got):
			delete(c.samples, p.Name)
			unready = append(unready, p.Name)
		default:
			ready++
		}
	}
	return ready, unready, missing
}

// warmsUp tells whether what a pod uses of the CPU says nothing yet of what it will use.
func (c *calculation) warmsUp(p *corev1.Pod, got sample) bool {
	var cond *corev1.PodCondition
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			cond = &p.Status.Conditions[i]
		}
	}
	if cond == nil || p.Status.StartTime == nil {
		return true
	}
	since := cond.LastTransitionTime.Time
	if p.Status.StartTime.Add(cpuWarmUp).After(c.now) {
		return cond.Status == corev1.ConditionFalse || got.at.Before(since.Add(got.window))
	}
	return cond.Status == corev1.ConditionFalse && p.Status.StartTime.Add(firstReadyDelay).After(since)
}

// ratio is how much more is used than wanted, the average, and the share of requests.
func (c *calculation) ratio() (ratio float64, average int64, utilization int32, err error) {
	sum, asked := int64(0), int64(0)
	for name, x := range c.samples {
		sum += x.value
		asked += c.requests[name]
	}
	average = sum / int64(len(c.samples))
	if c.percent == 0 {
		return float64(average) / float64(c.want), average, 0, nil
	}
	if asked == 0 {
		return 0, 0, 0, errors.New("no metrics returned matched known pods")
	}
	utilization = int32(sum * 100 / asked)
	return float64(utilization) / float64(c.percent), average, utilization, nil
}

// ask reads the requests of all pods; a container without one makes the share unknown.
func (c *calculation) ask(container string) error {
	c.requests = map[string]int64{}
	for _, p := range c.pods {
		n, err := c.request(p, container)
		if err != nil {
			return err
		}
		c.requests[p.Name] = n
	}
	return nil
}

func (c *calculation) request(p *corev1.Pod, container string) (int64, error) {
	if container == "" && resource.IsPodLevelRequestsSet(p) {
		q, ok := resource.PodRequests(p, resource.PodResourcesOptions{})[c.resource]
		if !ok {
			return 0, fmt.Errorf("missing pod-level request for %s in Pod %s", c.resource, p.Name)
		}
		return q.MilliValue(), nil
	}
	all := append([]corev1.Container{}, p.Spec.Containers...)
	for _, x := range p.Spec.InitContainers {
		if x.RestartPolicy != nil && *x.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, x)
		}
	}
	sum, found := int64(0), container == ""
	for _, x := range all {
		if container != "" && x.Name != container {
			continue
		}
		q, ok := x.Resources.Requests[c.resource]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", c.resource, x.Name, p.Name)
		}
		found = true
		sum += q.MilliValue()
	}
	if !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, p.Name)
	}
	return sum, nil
}
