package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/scale"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"reconcile/object"
)

// measurements is what both sides are told that pods use.
type measurements struct {
	mu   sync.Mutex
	pods map[string]object.Usage
	// told is what pods tell of themselves, in thousandths, by pod and metric.
	told map[string]map[string]int64
}

func (m *measurements) get(pod string) (object.Usage, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.pods[pod]
	return u, ok
}

func (m *measurements) metric(pod, name string) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.told[pod][name]
	return v, ok
}

// measuredOverlay is an overlay that knows what pods use.
type measuredOverlay struct {
	*overlay
	use *measurements
}

func (o *measuredOverlay) Usage(pod object.Key) (object.Usage, bool) { return o.use.get(pod.Name) }

func (o *measuredOverlay) Metric(pod object.Key, q object.MetricQuery) (object.MetricValue, string, bool) {
	v, ok := o.use.metric(pod.Name, q.Name)
	return object.MetricValue{At: time.Now(), Milli: v}, "", ok
}

// scales is the scale subresource of the peer's one ReplicaSet, and the metrics API beside it, as far as an autoscaler asks.
type scales struct {
	metrics.MetricsClient
	p   *peer
	use *measurements
}

func (s *scales) Scales(string) scale.ScaleInterface { return s }

func (s *scales) set() (*appsv1.ReplicaSet, error) {
	for _, o := range s.p.list("replicasets") {
		return object.Copy(o).(*appsv1.ReplicaSet), nil
	}
	return nil, errors.New("there is no ReplicaSet")
}

func (s *scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	rs, err := s.set()
	if err != nil {
		return nil, err
	}
	sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	return &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: rs.Name, Namespace: rs.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: *rs.Spec.Replicas},
		Status: autoscalingv1.ScaleStatus{Replicas: rs.Status.Replicas, Selector: sel.String()}}, err
}

func (s *scales) Update(_ context.Context, _ schema.GroupResource, sc *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	rs, err := s.set()
	if err == nil {
		rs.Spec.Replicas = &sc.Spec.Replicas
		s.p.change(rs, "")
	}
	return sc, err
}

func (s *scales) Patch(context.Context, schema.GroupVersionResource, string, types.PatchType, []byte, metav1.PatchOptions) (*autoscalingv1.Scale, error) {
	return nil, errors.New("the autoscaler does not patch")
}

// GetResourceMetric gives sums over containers, or one container's use, as the metrics client does.
func (s *scales) GetResourceMetric(_ context.Context, name corev1.ResourceName, _ string, sel labels.Selector, container string) (metrics.PodMetricsInfo, time.Time, error) {
	out, some := metrics.PodMetricsInfo{}, false
	for _, o := range s.p.list("pods") {
		u, ok := s.use.get(o.GetName())
		if !ok || !sel.Matches(labels.Set(o.GetLabels())) {
			continue
		}
		some = true
		sum, whole := int64(0), true
		for c, used := range u.Containers {
			if container != "" && c != container {
				continue
			}
			q, ok := used[name]
			whole = whole && ok
			sum += q.MilliValue()
		}
		if _, has := u.Containers[container]; whole && (has || container == "") {
			out[o.GetName()] = metrics.PodMetric{Timestamp: u.At, Window: u.Window, Value: sum}
		}
	}
	if !some {
		return nil, time.Time{}, errors.New("no metrics returned from resource metrics API")
	}
	return out, time.Time{}, nil
}

// GetRawMetric gives what the selected pods tell of themselves, as an adapter does.
func (s *scales) GetRawMetric(name, _ string, sel, _ labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	out := metrics.PodMetricsInfo{}
	for _, o := range s.p.list("pods") {
		if v, ok := s.use.metric(o.GetName(), name); ok && sel.Matches(labels.Set(o.GetLabels())) {
			out[o.GetName()] = metrics.PodMetric{Timestamp: time.Now(), Window: time.Minute, Value: v}
		}
	}
	if len(out) == 0 {
		return nil, time.Time{}, errors.New("unable to fetch metrics from custom metrics API: no metrics returned from custom metrics API")
	}
	return out, time.Time{}, nil
}

// GetObjectMetric sums over the pods of the one ReplicaSet.
func (s *scales) GetObjectMetric(name, _ string, ref *autoscalingv2.CrossVersionObjectReference, _ labels.Selector) (int64, time.Time, error) {
	sum, some := int64(0), false
	for _, o := range s.p.list("pods") {
		v, ok := s.use.metric(o.GetName(), name)
		if o.GetLabels()["app"] == "x" && ok {
			sum, some = sum+v, true
		}
	}
	if !some {
		return 0, time.Time{}, fmt.Errorf("unable to fetch metrics from custom metrics API: the server could not find the metric %s for replicasets %s", name, ref.Name)
	}
	return sum, time.Time{}, nil
}

// GetExternalMetric gives what each pod tells that runs.
func (s *scales) GetExternalMetric(name, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	var out []int64
	for _, o := range s.p.list("pods") {
		p := o.(*corev1.Pod)
		if v, ok := s.use.metric(p.Name, name); ok && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, time.Time{}, errors.New("unable to fetch metrics from external metrics API: no metrics returned from external metrics API")
	}
	return out, time.Time{}, nil
}

// runAutoscaler starts Kubernetes' autoscaler with its defaults.
func (p *peer) runAutoscaler(use *measurements) {
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{appsv1.SchemeGroupVersion})
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), apimeta.RESTScopeNamespace)
	sc := &scales{p: p, use: use}
	c := podautoscaler.NewHorizontalController(ctx, p.client.CoreV1(), sc, p.client.AutoscalingV2(), mapper, sc, f.Autoscaling().V2().HorizontalPodAutoscalers(), f.Core().V1().Pods(),
		15*time.Second, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second)
	p.run(f, func() { c.Run(ctx, 1) })
}

// autoscalerLines is what an autoscaler shows.
func autoscalerLines(h *autoscalingv2.HorizontalPodAutoscaler) (out []string) {
	st := h.Status
	value := func(v *autoscalingv2.MetricValueStatus) string {
		return fmt.Sprintf("%s of %s on average, %s in all", number(v.AverageUtilization), v.AverageValue, v.Value)
	}
	out = append(out, fmt.Sprintf("autoscaler %s: %d to %d, scaled at %s", h.Name, st.CurrentReplicas, st.DesiredReplicas, at(st.LastScaleTime)))
	for i, m := range st.CurrentMetrics {
		text := "none"
		switch {
		case m.Resource != nil:
			text = string(m.Resource.Name) + " " + value(&m.Resource.Current)
		case m.ContainerResource != nil:
			text = m.ContainerResource.Container + " " + value(&m.ContainerResource.Current)
		case m.Pods != nil:
			text = m.Pods.Metric.Name + " " + value(&m.Pods.Current)
		case m.Object != nil:
			text = m.Object.Metric.Name + " of " + m.Object.DescribedObject.Name + " " + value(&m.Object.Current)
		case m.External != nil:
			text = m.External.Metric.Name + " " + value(&m.External.Current)
		}
		out = append(out, fmt.Sprintf("autoscaler %s: metric %d %q %s", h.Name, i, m.Type, text))
	}
	for _, c := range st.Conditions {
		c.Message, _, _ = strings.Cut(c.Message, " of Pod ")
		c.Message, _, _ = strings.Cut(c.Message, " (no ") // ours says why
		out = append(out, fmt.Sprintf("autoscaler %s: %s=%s since %s %s: %s", h.Name, c.Type, c.Status, at(&c.LastTransitionTime), c.Reason, c.Message))
	}
	return out
}

// measure draws what the pods use, those that look alike alike; now and then some are not measured.
func (m *match) measure(use map[side]*measurements) {
	now := map[side]map[string]object.Usage{m.a: {}, m.b: {}}
	told := map[side]map[string]map[string]int64{m.a: {}, m.b: {}}
	theirs, our := pods(m.a, false), pods(m.b, false)
	for _, line := range slices.Sorted(maps.Keys(theirs)) {
		n := len(theirs[line])
		if m.flip(4) {
			// All or none of those that look alike, for which of them is the first differs between the sides.
			n = 0
		}
		u := object.Usage{At: time.Now(), Window: 30 * time.Second, Containers: map[string]corev1.ResourceList{
			"c": {"cpu": *kresource.NewMilliQuantity(int64(pick(m, 5, 30, 48, 52, 60, 80, 150)), kresource.DecimalSI), "memory": *kresource.NewQuantity(int64(m.rng.IntN(4))<<20, kresource.BinarySI)},
			"d": {"cpu": *kresource.NewMilliQuantity(int64(m.rng.IntN(50)), kresource.DecimalSI)},
		}}
		if m.flip(3) {
			u.Containers["d"]["memory"] = kresource.MustParse("1Mi")
		}
		if m.flip(20) {
			delete(u.Containers, "d")
		}
		tell := map[string]int64{}
		for _, name := range []string{"requests", "jobs"} {
			if !m.flip(5) {
				tell[name] = pick[int64](m, 0, 999, 3000, 9500, 10000, 10900, 15000, 40000, -2000)
			}
		}
		if tell["jobs"] < 0 {
			tell["jobs"] = 0 // Kubernetes takes a negative external metric for the overflow of a large one
		}
		m.say("%d use %v and tell %v: %s", n, u.Containers, tell, line)
		for s, list := range map[side][]*corev1.Pod{m.a: theirs[line], m.b: our[line]} {
			for _, p := range list[:min(n, len(list))] {
				now[s][p.Name], told[s][p.Name] = u, tell
			}
		}
	}
	for s, u := range use {
		u.mu.Lock()
		u.pods, u.told = now[s], told[s]
		u.mu.Unlock()
	}
}

// nextAs is startAs with the next number.
func (m *match) nextAs(started *int) func() bool {
	return func() bool {
		*started++
		return m.startAs(*started)
	}
}

// startAs runs a pod, and numbers it by its cost of deletion: pods are then told apart, and neither side has to choose between equal ones.
func (m *match) startAs(n int) bool {
	a, b, line, ok := m.somePod(waiting)
	if !ok {
		return false
	}
	m.say("run #%d %s", n, line)
	for s, p := range map[side]*corev1.Pod{m.a: a, m.b: b} {
		c := p.DeepCopy()
		place(c)
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, corev1.PodDeletionCost, strconv.Itoa(n))
		s.change(c, "")
		for _, o := range s.list("pods") {
			if o.GetName() == p.Name {
				c = o.(*corev1.Pod).DeepCopy()
			}
		}
		c.Status.Phase, c.Status.StartTime = corev1.PodRunning, ref(metav1.Now())
		setReady(c, true)
		s.change(c, "status")
	}
	return true
}

func behaviour(m *match) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	rules := func() *autoscalingv2.HPAScalingRules {
		r := &autoscalingv2.HPAScalingRules{SelectPolicy: ref(pick(m, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect))}
		if m.flip(2) {
			r.StabilizationWindowSeconds = ref(int32(m.rng.IntN(200)))
		}
		for range 1 + m.rng.IntN(2) {
			r.Policies = append(r.Policies, autoscalingv2.HPAScalingPolicy{Type: pick(m, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy), Value: int32(1 + m.rng.IntN(60)), PeriodSeconds: int32(1 + m.rng.IntN(200))})
		}
		if m.flip(3) {
			r.Tolerance = ref(kresource.MustParse(pick(m, "0", "0.05", "0.3")))
		}
		return r
	}
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	if !m.flip(3) {
		b.ScaleUp = rules()
	}
	if !m.flip(3) {
		b.ScaleDown = rules()
	}
	return b
}

// told draws metrics that pods tell of themselves.
func told(m *match) (out []autoscalingv2.MetricSpec) {
	in := func(all bool, value string) autoscalingv2.MetricTarget {
		q := kresource.MustParse(value)
		if all {
			return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &q}
		}
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &q}
	}
	if m.flip(3) {
		out = append(out, autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "requests"}, Target: in(false, "10")}})
	}
	if m.flip(3) {
		out = append(out, autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "requests", Selector: &metav1.LabelSelector{}},
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x"}, Target: in(m.flip(2), "12")}})
	}
	if m.flip(3) {
		out = append(out, autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "jobs"}, Target: in(m.flip(2), "12")}})
	}
	return out
}

// TestAutoscaler compares what autoscalers decide and tell, over pods that come, go, are not ready, use much, little or are not measured.
func TestAutoscaler(t *testing.T) {
	labels := map[string]string{"app": "x"}
	use := map[side]*measurements{}
	started := 0
	play(t, 60, func(m *match) {
		clear(use)
		use[m.a], use[m.b] = &measurements{}, &measurements{}
		m.a.(*peer).runAutoscaler(use[m.a])
		m.b.(*ours).use = use[m.b]
		rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ref(int32(m.rng.IntN(6))), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways)}}
		rs.Name = "x"
		rs.Spec.Template.Annotations = map[string]string{object.AnnotationScrape: "true"}
		request := func(cpu string) corev1.ResourceRequirements {
			return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": kresource.MustParse(cpu), "memory": kresource.MustParse("2Mi")}}
		}
		rs.Spec.Template.Spec.Containers[0].Resources = request("100m")
		rs.Spec.Template.Spec.Containers = append(rs.Spec.Template.Spec.Containers, corev1.Container{Name: "d", Image: "d", Resources: request("20m")})
		if m.flip(15) {
			rs.Spec.Template.Spec.Containers[1].Resources = corev1.ResourceRequirements{}
		}
		h := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: ref(int32(1 + m.rng.IntN(3))), MaxReplicas: int32(4 + m.rng.IntN(12)),
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x"}}}
		h.Name = "x"
		target := func(average string) autoscalingv2.MetricTarget {
			if m.flip(2) {
				return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ref(kresource.MustParse(average))}
			}
			return autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ref(int32(pick(m, 50, 90, 140)))}
		}
		if !m.flip(3) {
			h.Spec.Metrics = append(h.Spec.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: target("50m")}})
		}
		if m.flip(3) {
			h.Spec.Metrics = append(h.Spec.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: target("2Mi")}})
		}
		h.Spec.Metrics = append(h.Spec.Metrics, told(m)...)
		if m.flip(3) || len(h.Spec.Metrics) == 0 {
			h.Spec.Metrics = append(h.Spec.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType,
				ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: "cpu", Container: pick(m, "c", "d"), Target: target("30m")}})
		}
		if m.flip(2) {
			h.Spec.Behavior = behaviour(m)
		}
		m.say("make %d pods and %+v", *rs.Spec.Replicas, h.Spec)
		m.make(rs)
		m.make(h)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(24); {
			case n < 13:
				done = m.live(n, 6, m.nextAs(&started), []int32{1})
			case n == 13 && m.flip(3):
				size := int32(m.rng.IntN(9))
				m.say("replicas %d", size)
				m.edit("replicasets", "x", func(o object.Object) { o.(*appsv1.ReplicaSet).Spec.Replicas = &size })
				done = true
			case n < 19:
				m.measure(use)
				m.wait(11 * time.Second)
				done = true
			default:
				d := time.Duration(m.rng.IntN(300)) * time.Second
				m.say("wait %s", d)
				m.wait(d)
				done = true
			}
		}
	})
}
