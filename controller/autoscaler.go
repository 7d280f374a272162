package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// autoscalerPeriod is how often an autoscaler looks, counted from its creation, as Kubernetes' does.
const autoscalerPeriod = 15 * time.Second

// autoscalers sizes what HorizontalPodAutoscalers name. Its input are autoscalers, their targets, the pods that these select and what the
// view says the pods use (UsageView) and tell of themselves (MetricsView); its output are sizes of targets, and the autoscalers' status. The rules are those of Kubernetes'
// horizontal pod autoscaler; what that keeps in memory stands in an annotation (autoscalermemory.go), so that a new leader scales as the
// old one would have.
//
// The file has the flow; autoscalermetrics.go computes sizes from what is used, autoscalercustom.go from what pods
// tell of themselves, autoscalerlimits.go bounds them.
type autoscalers struct{}

func (autoscalers) Name() string      { return "horizontalpodautoscaler" }
func (autoscalers) Watches() []string { return []string{"horizontalpodautoscalers"} }

// Keys emits an autoscaler only when it is made: from then on it looks every 15 seconds, and never sooner because something changed.
func (autoscalers) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Old == nil && ch.New != nil {
		emit(ch.Key)
	}
}

func (autoscalers) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		return Result{}, nil
	}
	live := o.(*autoscalingv2.HorizontalPodAutoscaler)
	slot := lookBefore(live, now)
	next := slot.Add(autoscalerPeriod)
	if !slot.After(live.CreationTimestamp.Time) {
		return Result{Wake: next}, nil
	}
	s := &scaling{v: v, now: now, live: live, hpa: object.Copy(live), memory: readMemory(live)}
	s.last = slot
	if now.Sub(slot) < time.Second {
		s.last = slot.Add(-autoscalerPeriod)
	}
	s.run()
	s.memory.write(s.hpa, now)
	s.res.Put = append(s.res.Put, s.hpa)
	s.res.Wake = next
	return s.res, nil
}

// lookBefore is the last of an autoscaler's looks that was due, its creation if none was.
func lookBefore(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) time.Time {
	made := h.CreationTimestamp.Time
	if now.Before(made) {
		return made
	}
	return made.Add(now.Sub(made) / autoscalerPeriod * autoscalerPeriod)
}

// scaling is one look of one autoscaler.
type scaling struct {
	v    View
	now  time.Time
	last time.Time // of the look before
	live *autoscalingv2.HorizontalPodAutoscaler
	hpa  *autoscalingv2.HorizontalPodAutoscaler // what live becomes

	target   object.Object
	replicas int32 // wanted now
	observed int32 // in the target's status
	selector labels.Selector
	pods     []*corev1.Pod // that the selector matches

	memory scaleMemory
	asked  bool // whether the metrics asked for a size
	res    Result
}

// scaleTarget is what is scaled: the numbers and the selector that its scale subresource shows.
func (s *scaling) scaleTarget() (selector string, err error) {
	ref := s.hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", err
	}
	kind, known := kindOfGroup(gv.Group, ref.Kind)
	if !known {
		return "", fmt.Errorf("no matches for kind %q in group %q", ref.Kind, gv.Group)
	}
	group := kind.GVK.Group
	switch kind.Resource {
	case "replicationcontrollers":
		group = "autoscaling"
	case "deployments", "replicasets", "statefulsets":
	default:
		return "", errors.New("the server could not find the requested resource")
	}
	o, ok := s.v.Get(object.Key{Resource: kind.Resource, Namespace: s.hpa.Namespace, Name: ref.Name})
	if !ok {
		return "", fmt.Errorf("%s/scale.%s %q not found", kind.Resource, group, ref.Name)
	}
	s.target = o
	var want *int32
	var by *metav1.LabelSelector
	switch o := o.(type) {
	case *appsv1.Deployment:
		want, by, s.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *appsv1.ReplicaSet:
		want, by, s.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *appsv1.StatefulSet:
		want, by, s.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *corev1.ReplicationController:
		want, by, s.observed = o.Spec.Replicas, &metav1.LabelSelector{MatchLabels: o.Spec.Selector}, o.Status.Replicas
	}
	if s.replicas = 1; want != nil {
		s.replicas = *want
	}
	sel, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		return "", err
	}
	return sel.String(), nil
}

func kindOfGroup(group, name string) (object.Kind, bool) {
	for _, k := range object.Kinds() {
		if k.GVK.Group == group && k.GVK.Kind == name {
			return k, true
		}
	}
	return object.Kind{}, false
}

// resize sets the target's number.
func (s *scaling) resize(n int32) {
	o := object.Copy(s.target)
	switch o := o.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = &n
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = &n
	case *appsv1.StatefulSet:
		o.Spec.Replicas = &n
	case *corev1.ReplicationController:
		o.Spec.Replicas = &n
	}
	s.res.Put = append(s.res.Put, o)
}

func (s *scaling) least() int32 {
	if s.hpa.Spec.MinReplicas == nil {
		return 1
	}
	return *s.hpa.Spec.MinReplicas
}

func (s *scaling) run() {
	selector, err := s.scaleTarget()
	if err != nil {
		text := "the HPA controller was unable to get the target's current scale: " + err.Error()
		if s.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", text) {
			s.event(corev1.EventTypeWarning, "FailedGetScale", err.Error())
		}
		return
	}
	s.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	s.memory.begin(s.replicas, s.now)
	want, reason, statuses, ok := s.decide(selector)
	if !s.asked {
		s.memory.pause(s.last)
	}
	if !ok {
		s.status(s.hpa.Status.DesiredReplicas, statuses, false)
		return
	}
	if want == s.replicas {
		s.status(want, statuses, false)
		return
	}
	s.resize(want)
	s.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", want))
	s.event(corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", want, reason))
	s.memory.scaled(s.hpa.Spec.Behavior, want-s.replicas, s.now)
	s.status(want, statuses, true)
}

// decide is the size that the target should have, and why. It tells false if that cannot be computed.
func (s *scaling) decide(selector string) (want int32, reason string, statuses []autoscalingv2.MetricStatus, ok bool) {
	switch spec := &s.hpa.Spec; {
	case s.replicas == 0:
		s.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return 0, "", nil, true
	case s.replicas > spec.MaxReplicas:
		return spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas", nil, true
	case s.replicas < s.least():
		return s.least(), "Current number of replicas below Spec.MinReplicas", nil, true
	}
	proposed, metric, statuses, ok := s.propose(selector)
	if !ok {
		return 0, "", statuses, false
	}
	switch {
	case proposed > s.replicas:
		reason = metric + " above target"
	case proposed < s.replicas:
		reason = "All metrics below target"
	}
	s.asked = true
	return s.bound(proposed), reason, statuses, true
}

// propose is the largest of the sizes that the metrics ask for.
func (s *scaling) propose(selector string) (size int32, metric string, statuses []autoscalingv2.MetricStatus, ok bool) {
	if !s.selectPods(selector) {
		return 0, "", nil, false
	}
	statuses = make([]autoscalingv2.MetricStatus, len(s.hpa.Spec.Metrics))
	var first *metricError
	failed := 0
	for i := range s.hpa.Spec.Metrics {
		n, name, err := s.one(&s.hpa.Spec.Metrics[i], &statuses[i])
		if err != nil {
			if failed++; first == nil {
				first = err
			}
			continue
		}
		if size == 0 || n > size {
			size, metric = n, name
		}
	}
	if failed > 0 && (failed == len(statuses) || size < s.replicas) {
		if s.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, first.reason, "the HPA was unable to compute the replica count: "+first.err.Error()) {
			s.event(corev1.EventTypeWarning, first.reason, first.err.Error())
			s.event(corev1.EventTypeWarning, "FailedComputeMetricsReplicas", fmt.Sprintf("invalid metrics (%d invalid out of %d), first error is: %s%v", failed, len(statuses), first.prefix, first.err))
		}
		return 0, "", statuses, false
	}
	s.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+metric)
	return size, metric, statuses, true
}

// selectPods reads the pods that are measured; it tells false if it cannot be told which these are.
func (s *scaling) selectPods(selector string) bool {
	fail := func(event, reason, text, told string) bool {
		if s.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason, told) {
			s.event(corev1.EventTypeWarning, event, text)
			s.event(corev1.EventTypeWarning, "FailedComputeMetricsReplicas", text)
		}
		return false
	}
	if selector == "" {
		return fail("SelectorRequired", "InvalidSelector", "selector is required", "the HPA target's scale is missing a selector")
	}
	sel, err := labels.Parse(selector)
	if err != nil {
		text := "couldn't convert selector into a corresponding internal selector object: " + err.Error()
		return fail("InvalidSelector", "InvalidSelector", text, text)
	}
	s.selector = sel
	s.pods = podsSelected(s.v, s.hpa.Namespace, sel)
	if all := s.selecting(); len(all) > 1 {
		text := fmt.Sprintf("pods by selector %s are controlled by multiple HPAs: [%s]", selector, strings.Join(all, " "))
		return fail("AmbiguousSelector", "AmbiguousSelector", text, text)
	}
	return true
}

// selecting are the autoscalers that have a pod in common with this one, itself among them.
func (s *scaling) selecting() []string {
	var out []string
	for o := range s.v.List("horizontalpodautoscalers", s.hpa.Namespace) {
		other := scaling{v: s.v, hpa: o.(*autoscalingv2.HorizontalPodAutoscaler)}
		sel := s.selector
		if o.GetUID() != s.hpa.UID {
			text, err := other.scaleTarget()
			if err != nil || text == "" {
				continue
			}
			if sel, err = labels.Parse(text); err != nil {
				continue
			}
		}
		if slices.ContainsFunc(s.pods, func(p *corev1.Pod) bool { return sel.Matches(labels.Set(p.Labels)) }) {
			out = append(out, fmt.Sprintf("{%s %s}", o.GetName(), o.GetNamespace()))
		}
	}
	return out
}

// status writes what Kubernetes' controller writes. The time of the last look is not part of it, so nothing is written while nothing changes.
func (s *scaling) status(desired int32, statuses []autoscalingv2.MetricStatus, scaled bool) {
	was := s.hpa.Status
	s.hpa.Status = autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: s.replicas, DesiredReplicas: desired, LastScaleTime: was.LastScaleTime,
		CurrentMetrics: statuses, Conditions: was.Conditions}
	if scaled {
		now := metav1.NewTime(s.now.Truncate(time.Second))
		s.hpa.Status.LastScaleTime = &now
	}
}

// condition sets a condition, and tells whether it says something else than when this look began.
func (s *scaling) condition(t autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) bool {
	all := &s.hpa.Status.Conditions
	i := slices.IndexFunc(*all, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool { return c.Type == t })
	if i < 0 {
		i = len(*all)
		*all = append(*all, autoscalingv2.HorizontalPodAutoscalerCondition{Type: t})
	}
	c := &(*all)[i]
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(s.now.Truncate(time.Second))
	}
	c.Status, c.Reason, c.Message = status, reason, message
	return !slices.ContainsFunc(s.live.Status.Conditions, func(was autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return was.Type == t && was.Status == status && was.Reason == reason && was.Message == message
	})
}

func (s *scaling) event(kind, reason, message string) {
	s.res.Events = append(s.res.Events, Event{Regarding: s.live, Type: kind, Reason: reason, Message: message, Component: "horizontal-pod-autoscaler"})
}
