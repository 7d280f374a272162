package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/object"
)

// disruptionTime is for how long an eviction that was granted counts as under way though the pod is still there.
const disruptionTime = 2 * time.Minute

// disruption keeps the status of PodDisruptionBudgets, which the eviction subresource spends. Its input are budgets, the pods that
// they select and the sizes of what owns those, its output the budgets' status.
type disruption struct{}

func (disruption) Name() string { return "disruption" }

func (disruption) final(resource string) bool { return resource == "poddisruptionbudgets" }

func (disruption) Watches() []string {
	return []string{"poddisruptionbudgets", "pods", "deployments", "replicasets", "replicationcontrollers", "statefulsets"}
}

func (disruption) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "poddisruptionbudgets" {
		if ch.New != nil {
			emit(ch.Key)
		}
		return
	}
	if ch.Old != nil && ch.New != nil {
		if p, ok := ch.New.(*corev1.Pod); ok && samePodForOwner(ch.Old.(*corev1.Pod), p) || !ok && ch.Old.GetGeneration() == ch.New.GetGeneration() {
			return
		}
	}
	for o := range v.List("poddisruptionbudgets", ch.Key.Namespace) {
		b := o.(*policyv1.PodDisruptionBudget)
		if _, isPod := firstObject(ch.Old, ch.New).(*corev1.Pod); !isPod || selectsAny(b, ch.Old, ch.New) {
			emit(object.KeyOf(b))
		}
	}
}

func firstObject(a, b object.Object) object.Object {
	if a != nil {
		return a
	}
	return b
}

// selectsAny tells whether a budget selects one of the objects.
func selectsAny(b *policyv1.PodDisruptionBudget, objects ...object.Object) bool {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && slices.ContainsFunc(objects, func(o object.Object) bool { return o != nil && sel.Matches(labels.Set(o.GetLabels())) })
}

func (disruption) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*policyv1.PodDisruptionBudget)
	sel, err := metav1.LabelSelectorAsSelector(live.Spec.Selector)
	if err != nil {
		return Result{}, fmt.Errorf("read the selector of %s: %w", key, err)
	}
	b := *live
	r := budgetRun{v: v, now: now, b: &b}
	for p := range v.List("pods", live.Namespace) {
		if sel.Matches(labels.Set(p.GetLabels())) {
			r.pods = append(r.pods, p.(*corev1.Pod))
		}
	}
	r.run(live)
	r.res.Put = append(r.res.Put, &b)
	return r.res, nil
}

// budgetRun is one run for one budget.
type budgetRun struct {
	v    View
	now  time.Time
	b    *policyv1.PodDisruptionBudget
	pods []*corev1.Pod
	res  Result
}

func (r *budgetRun) run(live *policyv1.PodDisruptionBudget) {
	st := *live.Status.DeepCopy()
	r.b.Status = st
	expected, healthy, err := r.wanted(live)
	if err != nil {
		// Nothing may be evicted while the number is not known; the rest of the status stays as it was.
		r.tell("CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: "+err.Error())
		r.b.Status.DisruptionsAllowed = 0
		r.b.Status.Conditions = allowedCondition(live, metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: err.Error(),
			ObservedGeneration: st.ObservedGeneration}, r.now)
		return
	}
	st.ObservedGeneration = live.Generation
	st.ExpectedPods, st.DesiredHealthy = expected, healthy
	st.DisruptedPods = r.underWay(live.Status.DisruptedPods)
	st.CurrentHealthy = 0
	for _, p := range r.pods {
		if _, going := st.DisruptedPods[p.Name]; !going && p.DeletionTimestamp == nil && podReady(p) {
			st.CurrentHealthy++
		}
	}
	st.DisruptionsAllowed = 0
	if st.ExpectedPods > 0 {
		st.DisruptionsAllowed = max(0, st.CurrentHealthy-st.DesiredHealthy)
	}
	c := metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason, ObservedGeneration: live.Generation}
	if st.DisruptionsAllowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	st.Conditions = allowedCondition(live, c, r.now)
	r.b.Status = st
}

func (r *budgetRun) tell(reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.b, Type: corev1.EventTypeWarning, Reason: reason, Message: message, Component: "controllermanager"})
}

// wanted are how many pods there should be, and how many of them must stay healthy. Shares are of what the pods' owners ask for, and
// are rounded up.
func (r *budgetRun) wanted(b *policyv1.PodDisruptionBudget) (expected, healthy int32, err error) {
	switch most, least := b.Spec.MaxUnavailable, b.Spec.MinAvailable; {
	case most != nil:
		expected, err = r.asked(b)
		return expected, max(0, expected-int32(share(most, int(expected)))), err
	case least != nil && least.Type == intstr.Int:
		return int32(len(r.pods)), least.IntVal, nil
	case least != nil:
		expected, err = r.asked(b)
		return expected, int32(share(least, int(expected))), err
	}
	return int32(len(r.pods)), 0, nil
}

// asked is the sum of the sizes of what owns the pods. The error is in Kubernetes' words.
func (r *budgetRun) asked(b *policyv1.PodDisruptionBudget) (int32, error) {
	sizes, seen, alone := map[types.UID]int32{}, map[types.UID]bool{}, false
	for _, p := range r.pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			alone = true
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		owner, err := r.scaled(p, ref)
		if err != nil {
			return 0, err
		}
		sizes[owner.GetUID()] = sizeOf(owner)
	}
	if alone {
		r.tell("UnmanagedPods", fmt.Sprintf("Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB cannot be calculated "+
			"correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", b.Spec.Selector))
	}
	n := int32(0)
	for size := range maps.Values(sizes) {
		n += size
	}
	return n, nil
}

// scaled is what says how many pods like this one there shall be: its controller, or the Deployment of that if it is there.
func (r *budgetRun) scaled(p *corev1.Pod, ref *metav1.OwnerReference) (object.Object, error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	k, known := object.KindOf(gvk)
	switch {
	case !known:
		return nil, fmt.Errorf("no matches for kind %q in version %q", gvk.Kind, gvk.GroupVersion())
	case !k.Scale:
		return nil, fmt.Errorf("%s does not implement the scale subresource", k.GroupResource())
	}
	at := func(resource string, ref *metav1.OwnerReference) (object.Object, bool) {
		o, ok := r.v.Get(object.Key{Resource: resource, Namespace: p.Namespace, Name: ref.Name})
		return o, ok && o.GetUID() == ref.UID
	}
	o, ok := at(k.Resource, ref)
	if !ok {
		return nil, fmt.Errorf("found no controllers for pod %q", p.Name)
	}
	if up := metav1.GetControllerOfNoCopy(o); up != nil && up.Kind == "Deployment" && k.Resource == "replicasets" {
		if d, ok := at("deployments", up); ok {
			return d, nil
		}
	}
	return o, nil
}

// sizeOf is how many pods an object asks for.
func sizeOf(o object.Object) int32 {
	var n *int32
	switch o := o.(type) {
	case *appsv1.Deployment:
		n = o.Spec.Replicas
	case *appsv1.ReplicaSet:
		n = o.Spec.Replicas
	case *appsv1.StatefulSet:
		n = o.Spec.Replicas
	case *corev1.ReplicationController:
		n = o.Spec.Replicas
	default:
		return 0
	}
	if n == nil {
		return 1
	}
	return *n
}

// underWay keeps the evictions that were granted and have not begun yet; one that never begins is forgotten, and then counts as healthy.
func (r *budgetRun) underWay(had map[string]metav1.Time) map[string]metav1.Time {
	var out map[string]metav1.Time
	for _, p := range r.pods {
		at, granted := had[p.Name]
		if !granted || p.DeletionTimestamp != nil {
			continue
		}
		end := at.Add(disruptionTime)
		if !end.After(r.now) {
			continue
		}
		if r.res.Wake.IsZero() || end.Before(r.res.Wake) {
			r.res.Wake = end
		}
		if out == nil {
			out = map[string]metav1.Time{}
		}
		out[p.Name] = at
	}
	return out
}

// allowedCondition is the budget's conditions with the one that tells whether a pod may be evicted now.
func allowedCondition(b *policyv1.PodDisruptionBudget, c metav1.Condition, now time.Time) []metav1.Condition {
	c.Type, c.LastTransitionTime = policyv1.DisruptionAllowedCondition, metav1.NewTime(now.Truncate(time.Second))
	var out []metav1.Condition
	for _, had := range b.Status.Conditions {
		if had.Type != c.Type {
			out = append(out, had)
		} else if had.Status == c.Status {
			c.LastTransitionTime = had.LastTransitionTime
		}
	}
	return append(out, c)
}
