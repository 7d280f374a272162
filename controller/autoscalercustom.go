package controller

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// MetricsView is a View that also tells what pods answered about metrics of their own. A View that is none stands for a cluster in which nobody asks.
type MetricsView interface {
	// Metric is the last value of a pod's metric. Without one, fault may tell why the pod cannot be asked.
	Metric(pod object.Key, q object.MetricQuery) (v object.MetricValue, fault string, ok bool)
}

// What Kubernetes says where nobody serves these metrics, and where there is none of them.
var (
	errNoCustomMetrics   = errors.New("no custom metrics API (custom.metrics.k8s.io) registered")
	errNoneOfPods        = errors.New("no metrics returned from custom metrics API")
	errNoneFromElsewhere = errors.New("no metrics returned from external metrics API")
)

// query is what a metric's name and selector ask for.
func query(m *autoscalingv2.MetricIdentifier) (object.MetricQuery, error) {
	sel, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return object.MetricQuery{}, err
	}
	return object.MetricQuery{Name: m.Name, Selector: sel.String()}, nil
}

// measured is what one metric of pods came to.
type measured struct {
	samples map[string]sample // by pod
	why     string            // why there are none, for people; empty if nothing is known
}

// of asks the view for a metric of each of the pods.
func (s *scaling) of(q object.MetricQuery, pods []*corev1.Pod) (measured, error) {
	view, ok := s.v.(MetricsView)
	if !ok {
		return measured{}, errNoCustomMetrics
	}
	m, open, annotated := measured{samples: map[string]sample{}}, 0, 0
	for _, p := range pods {
		if object.MayBeAsked(p) {
			open++
		}
		if p.Annotations[object.AnnotationScrape] == "true" {
			annotated++
		}
		v, fault, ok := view.Metric(object.KeyOf(p), q)
		switch {
		case ok:
			m.samples[p.Name] = sample{v.Milli, v.At, v.Window}
		case fault != "" && m.why == "":
			m.why = fmt.Sprintf(" (pod %s: %s)", p.Name, fault)
		}
	}
	switch {
	case open > 0 || len(pods) == 0:
	case annotated > 0:
		m.why = fmt.Sprintf(" (no pod of %d with the annotation %s: \"true\" is running)", annotated, object.AnnotationScrape)
	default:
		m.why = fmt.Sprintf(" (no pod of %d has the annotation %s: \"true\")", len(pods), object.AnnotationScrape)
	}
	return m, nil
}

// sum adds all samples up; a sum that no int64 holds is the nearest that one does. It is bounded at the end only, so that the order is of no account.
func (m *measured) sum() int64 {
	var all, one big.Int
	for _, x := range m.samples {
		all.Add(&all, one.SetInt64(x.value))
	}
	switch {
	case all.IsInt64():
		return all.Int64()
	case all.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// podsMetric is the size by the average of a metric of the selected pods.
func (s *scaling) podsMetric(m *autoscalingv2.PodsMetricSource, status *autoscalingv2.MetricStatus) (int32, string, *metricError) {
	fail := func(err error) (int32, string, *metricError) {
		return 0, "", &metricError{"FailedGetPodsMetric", "failed to get pods metric value: ", err}
	}
	q, err := query(&m.Metric)
	if err != nil {
		return fail(err)
	}
	got, err := s.of(q, s.pods)
	if err == nil && len(got.samples) == 0 {
		err = fmt.Errorf("%w%s", errNoneOfPods, got.why)
	}
	if err != nil {
		return fail(fmt.Errorf("unable to get metric %s: unable to fetch metrics from custom metrics API: %w", m.Metric.Name, err))
	}
	c := calculation{now: s.now, pods: s.pods, current: s.replicas, samples: got.samples, want: m.Target.AverageValue.MilliValue(), up: s.tolerance(true), down: s.tolerance(false)}
	n, err := c.run("")
	if err != nil {
		return fail(err)
	}
	*status = autoscalingv2.MetricStatus{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{Metric: m.Metric,
		Current: autoscalingv2.MetricValueStatus{AverageValue: kresource.NewMilliQuantity(c.average, kresource.DecimalSI)}}}
	return n, "pods metric " + m.Metric.Name, nil
}

// objectMetric is the size by the sum of a metric over the pods that an object stands for.
func (s *scaling) objectMetric(m *autoscalingv2.ObjectMetricSource, status *autoscalingv2.MetricStatus) (int32, string, *metricError) {
	fail := func(prefix string, err error) (int32, string, *metricError) {
		return 0, "", &metricError{"FailedGetObjectMetric", "failed to get object metric value: " + prefix, err}
	}
	ref := &m.DescribedObject
	var prefix string
	average := m.Target.Type == autoscalingv2.AverageValueMetricType && m.Target.AverageValue != nil
	switch {
	case average:
		prefix = fmt.Sprintf("failed to get %s object metric: ", m.Metric.Name)
	case m.Target.Type != autoscalingv2.ValueMetricType || m.Target.Value == nil:
		return fail("", errors.New("invalid object metric source: neither a value target nor an average value target was set"))
	}
	q, err := query(&m.Metric)
	if err != nil {
		return fail("", err)
	}
	got, err := s.ofObject(q, ref)
	if err != nil {
		// The words stand where Kubernetes puts them.
		return fail(prefix, fmt.Errorf("unable to get metric %s: %s on %s %s/unable to fetch metrics from custom metrics API: %w", m.Metric.Name, ref.Kind, s.hpa.Namespace, ref.Name, err))
	}
	use := got.sum()
	current := autoscalingv2.MetricValueStatus{}
	name := fmt.Sprintf("%s metric %s", ref.Kind, m.Metric.Name)
	var n int32
	if average {
		n, use = s.perPod(use, m.Target.AverageValue.MilliValue())
		current.AverageValue = kresource.NewMilliQuantity(use, kresource.DecimalSI)
		name = fmt.Sprintf("external metric %s(%+v)", m.Metric.Name, m.Metric.Selector)
	} else {
		if n, err = s.inAll(use, m.Target.Value.MilliValue()); err != nil {
			return fail("", err)
		}
		current.Value = kresource.NewMilliQuantity(use, kresource.DecimalSI)
	}
	*status = autoscalingv2.MetricStatus{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricStatus{DescribedObject: *ref, Metric: m.Metric, Current: current}}
	return n, name, nil
}

// ofObject is a metric of the pods that an object stands for; an error if there is none.
func (s *scaling) ofObject(q object.MetricQuery, ref *autoscalingv2.CrossVersionObjectReference) (measured, error) {
	if _, ok := s.v.(MetricsView); !ok {
		return measured{}, errNoCustomMetrics
	}
	resource := strings.ToLower(ref.Kind) + "s"
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err == nil {
		if k, ok := kindOfGroup(gv.Group, ref.Kind); ok {
			resource = k.Resource
		}
	}
	none := func(why string) (measured, error) {
		return measured{}, fmt.Errorf("the server could not find the metric %s for %s %s%s", q.Name, resource, ref.Name, why)
	}
	pods, why := PodsFor(s.v, s.hpa.Namespace, ref)
	if why != "" {
		return none(" (" + why + ")")
	}
	got, err := s.of(q, pods)
	switch {
	case err != nil:
		return measured{}, err
	case len(got.samples) > 0:
		return got, nil
	case len(pods) == 0:
		return none(" (no pod belongs to it)")
	}
	return none(got.why)
}

// PodsFor are the pods of a namespace that an object stands for, by name: those that a Service or a controller selects, a Pod itself, or all of its
// Namespace. If it stands for none, why tells the reason, unless it is that there is no such pod now.
func PodsFor(v View, namespace string, ref *autoscalingv2.CrossVersionObjectReference) (pods []*corev1.Pod, why string) {
	const otherKind = "objects of this kind stand for no pods"
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, otherKind
	}
	if gv.Group == "" && ref.Kind == "Namespace" {
		return podsSelected(v, namespace, labels.Everything()), ""
	}
	kind, ok := kindOfGroup(gv.Group, ref.Kind)
	if !ok || !slices.Contains([]string{"pods", "services", "replicationcontrollers", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs"}, kind.Resource) {
		return nil, otherKind
	}
	o, ok := v.Get(object.Key{Resource: kind.Resource, Namespace: namespace, Name: ref.Name})
	if !ok {
		return nil, "there is no such object"
	}
	var selector *metav1.LabelSelector
	switch o := o.(type) {
	case *corev1.Pod:
		return []*corev1.Pod{o}, ""
	case *corev1.Service:
		if len(o.Spec.Selector) == 0 {
			return nil, ""
		}
		return podsSelected(v, namespace, labels.SelectorFromSet(o.Spec.Selector)), ""
	case *corev1.ReplicationController:
		return podsSelected(v, namespace, labels.SelectorFromSet(o.Spec.Selector)), ""
	case *appsv1.Deployment:
		selector = o.Spec.Selector
	case *appsv1.ReplicaSet:
		selector = o.Spec.Selector
	case *appsv1.StatefulSet:
		selector = o.Spec.Selector
	case *appsv1.DaemonSet:
		selector = o.Spec.Selector
	case *batchv1.Job:
		selector = o.Spec.Selector
	}
	sel, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, ""
	}
	return podsSelected(v, namespace, sel), ""
}

// externalMetric is the size by the sum of a metric over all pods of the autoscaler's namespace that serve it, whosever they are.
func (s *scaling) externalMetric(m *autoscalingv2.ExternalMetricSource, status *autoscalingv2.MetricStatus) (int32, string, *metricError) {
	average := m.Target.AverageValue != nil
	prefix := fmt.Sprintf("failed to get %[1]s external metric value: failed to get external metric %[1]s: ", m.Metric.Name)
	if average {
		prefix = fmt.Sprintf("failed to get %[1]s external metric value: failed to get %[1]s external metric: ", m.Metric.Name)
	}
	fail := func(prefix string, err error) (int32, string, *metricError) {
		return 0, "", &metricError{"FailedGetExternalMetric", prefix, err}
	}
	if !average && m.Target.Value == nil {
		return fail(fmt.Sprintf("failed to get %s external metric value: ", m.Metric.Name), errors.New("invalid external metric source: neither a value target nor an average value target was set"))
	}
	q, err := query(&m.Metric)
	if err != nil {
		return fail(prefix, err)
	}
	got, err := s.external(q)
	if err != nil {
		return fail(prefix, fmt.Errorf("unable to get external metric %s/%s/%+v: unable to fetch metrics from external metrics API: %w", s.hpa.Namespace, m.Metric.Name, m.Metric.Selector, err))
	}
	use := got.sum()
	current := autoscalingv2.MetricValueStatus{}
	var n int32
	if average {
		n, use = s.perPod(use, m.Target.AverageValue.MilliValue())
		current.AverageValue = kresource.NewMilliQuantity(use, kresource.DecimalSI)
	} else {
		if n, err = s.inAll(use, m.Target.Value.MilliValue()); err != nil {
			return fail(prefix, err)
		}
		current.Value = kresource.NewMilliQuantity(use, kresource.DecimalSI)
	}
	*status = autoscalingv2.MetricStatus{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: m.Metric, Current: current}}
	return n, fmt.Sprintf("external metric %s(%+v)", m.Metric.Name, m.Metric.Selector), nil
}

func (s *scaling) external(q object.MetricQuery) (measured, error) {
	if _, ok := s.v.(MetricsView); !ok {
		return measured{}, fmt.Errorf("the server could not find the requested resource (get %s.external.metrics.k8s.io)", q.Name)
	}
	var pods []*corev1.Pod
	for o := range s.v.Indexed(object.Measurable(s.hpa.Namespace)) {
		pods = append(pods, o.(*corev1.Pod))
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	got, err := s.of(q, pods)
	if err == nil && len(got.samples) == 0 {
		if len(pods) == 0 {
			got.why = fmt.Sprintf(" (no pod of namespace %s has the annotation %s: \"true\")", s.hpa.Namespace, object.AnnotationScrape)
			for o := range s.v.List("pods", s.hpa.Namespace) {
				if o.GetAnnotations()[object.AnnotationScrape] == "true" {
					got.why = fmt.Sprintf(" (no pod of namespace %s with the annotation %s: \"true\" is running)", s.hpa.Namespace, object.AnnotationScrape)
					break
				}
			}
		}
		err = fmt.Errorf("%w%s", errNoneFromElsewhere, got.why)
	}
	return got, err
}

// inAll is the size at which an amount would be what is wanted, if it fell to the ready pods of now in equal parts.
func (s *scaling) inAll(use, want int64) (int32, error) {
	ratio := float64(use) / float64(want)
	c := calculation{up: s.tolerance(true), down: s.tolerance(false)}
	if c.within(ratio) {
		return s.replicas, nil
	}
	if len(s.pods) == 0 {
		return 0, errors.New("unable to calculate ready pods: no pods returned by selector while calculating replica count")
	}
	ready := 0
	for _, p := range s.pods {
		if p.Status.Phase == corev1.PodRunning && podReady(p) {
			ready++
		}
	}
	return atMost(ratio * float64(ready)), nil
}

// perPod is the size at which each pod has the amount that is wanted of it, and what each has now.
func (s *scaling) perPod(use, want int64) (size int32, each int64) {
	size = s.observed
	c := calculation{up: s.tolerance(true), down: s.tolerance(false)}
	if ratio := float64(use) / (float64(want) * float64(size)); !c.within(ratio) {
		size = atMost(float64(use) / float64(want))
	}
	// Kubernetes divides by zero where the target's status has no pods yet.
	if each := math.Ceil(float64(use) / float64(max(1, s.observed))); each < math.MaxInt64 {
		return size, int64(each)
	}
	return size, math.MaxInt64
}

// atMost rounds up to a number of pods, at most to what an int32 holds.
func atMost(n float64) int32 {
	return int32(max(math.MinInt32, min(math.MaxInt32, math.Ceil(n))))
}
