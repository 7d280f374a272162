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
	r := budgetRun{v: v, now: now, b: &b, sel: sel, sorts: slices.Collect(sortsSelected(v, live.Namespace, sel))}
	for _, a := range r.sorts {
		r.pods += int32(a.Pods)
	}
	r.run(live)
	r.res.Put = append(r.res.Put, &b)
	return r.res, nil
}

// budgetRun is one run for one budget. It counts the selected pods by their sorts.
type budgetRun struct {
	v     View
	now   time.Time
	b     *policyv1.PodDisruptionBudget
	sel   labels.Selector
	sorts []object.Alike
	pods  int32
	res   Result
}

func (r *budgetRun) run(live *policyv1.PodDisruptionBudget) {
	st := *live.Status.DeepCopy()
	r.b.Status = st
	expected, healthy, err := r.wanted(live)
	if err != nil {
		// Nothing may be evicted while the number is not known; the rest of the status stays as it was.
		r.tell(corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: "+err.Error())
		r.b.Status.DisruptionsAllowed = 0
		r.b.Status.Conditions = allowedCondition(live, metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: err.Error(),
			ObservedGeneration: st.ObservedGeneration}, r.now)
		return
	}
	if r.pods == 0 && (st.ObservedGeneration != live.Generation || st.ExpectedPods > 0) { // not each time
		r.tell(corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	st.ObservedGeneration = live.Generation
	st.ExpectedPods, st.DesiredHealthy = expected, healthy
	st.DisruptedPods = r.underWay(live.Status.DisruptedPods)
	st.CurrentHealthy = 0
	for _, a := range r.sorts {
		if countsHealthy(a.Example) {
			st.CurrentHealthy += int32(a.Pods)
		}
	}
	for name := range st.DisruptedPods {
		if p := r.selected(name); p != nil && countsHealthy(p) {
			st.CurrentHealthy--
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

func countsHealthy(p *corev1.Pod) bool { return p.DeletionTimestamp == nil && podReady(p) }

// selected is the pod of a name if the budget selects it.
func (r *budgetRun) selected(name string) *corev1.Pod {
	o, ok := r.v.Get(object.Key{Resource: "pods", Namespace: r.b.Namespace, Name: name})
	if !ok || !r.sel.Matches(labels.Set(o.GetLabels())) {
		return nil
	}
	return o.(*corev1.Pod)
}

func (r *budgetRun) tell(kind, reason, message string) {
	r.res.Events = append(r.res.Events, Event{Regarding: r.b, Type: kind, Reason: reason, Message: message, Component: "controllermanager"})
}

// wanted are how many pods there should be, and how many of them must stay healthy. Shares are of what the pods' owners ask for, and
// are rounded up.
func (r *budgetRun) wanted(b *policyv1.PodDisruptionBudget) (expected, healthy int32, err error) {
	switch most, least := b.Spec.MaxUnavailable, b.Spec.MinAvailable; {
	case most != nil:
		expected, err = r.asked(b)
		return expected, max(0, expected-int32(share(most, int(expected)))), err
	case least != nil && least.Type == intstr.Int:
		return r.pods, least.IntVal, nil
	case least != nil:
		expected, err = r.asked(b)
		return expected, int32(share(least, int(expected))), err
	}
	return r.pods, 0, nil
}

// asked is the sum of the sizes of what owns the pods. The error is in Kubernetes' words.
func (r *budgetRun) asked(b *policyv1.PodDisruptionBudget) (int32, error) {
	sizes, seen, alone := map[types.UID]int32{}, map[types.UID]bool{}, false
	for _, a := range r.sorts {
		ref := metav1.GetControllerOfNoCopy(a.Example)
		if ref == nil {
			alone = true
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		owner, err := r.scaled(ref)
		if err != nil {
			return 0, err
		}
		sizes[owner.GetUID()] = sizeOf(owner)
	}
	if alone {
		r.tell(corev1.EventTypeWarning, "UnmanagedPods", fmt.Sprintf("Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB cannot be calculated "+
			"correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", b.Spec.Selector))
	}
	n := int32(0)
	for size := range maps.Values(sizes) {
		n += size
	}
	return n, nil
}

// firstOf is the name of the first of the budget's pods that an owner controls.
func (r *budgetRun) firstOf(owner types.UID) string {
	for o := range r.v.Owned(owner) {
		if p, ok := o.(*corev1.Pod); ok && controllerUID(p) == owner && r.sel.Matches(labels.Set(p.Labels)) {
			return p.Name
		}
	}
	return ""
}

// scaled is what says how many pods there shall be of those that ref controls: that controller, or the Deployment of that if it is there.
func (r *budgetRun) scaled(ref *metav1.OwnerReference) (object.Object, error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	k, known := object.KindOf(gvk)
	switch {
	case !known:
		return nil, fmt.Errorf("no matches for kind %q in version %q", gvk.Kind, gvk.GroupVersion())
	case !k.Scale:
		return nil, fmt.Errorf("%s does not implement the scale subresource", k.GroupResource())
	}
	at := func(resource string, ref *metav1.OwnerReference) (object.Object, bool) {
		o, ok := r.v.Get(object.Key{Resource: resource, Namespace: r.b.Namespace, Name: ref.Name})
		return o, ok && o.GetUID() == ref.UID
	}
	o, ok := at(k.Resource, ref)
	if !ok {
		return nil, fmt.Errorf("found no controllers for pod %q", r.firstOf(ref.UID))
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
	for _, name := range slices.Sorted(maps.Keys(had)) {
		at, p := had[name], r.selected(name)
		if p == nil || p.DeletionTimestamp != nil {
			continue
		}
		end := at.Add(disruptionTime)
		if !end.After(r.now) {
			r.res.Events = append(r.res.Events, Event{Regarding: p, Type: corev1.EventTypeWarning, Reason: "NotDeleted", Component: "controllermanager",
				Message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", r.b.Namespace, r.b.Name)})
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
