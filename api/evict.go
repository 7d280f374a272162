package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/authz"
	"reconcile/object"
	"reconcile/sequencer"
)

// evict serves pods/eviction: a deletion that the pod's disruption budget may refuse. The budget's use and the deletion are one write.
func (s *Server) evict(w http.ResponseWriter, r *http.Request, t target) error {
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	var body policyv1.Eviction
	if err := decodePlain(b, media, &body); err != nil {
		return err
	}
	if body.Name != "" && body.Name != t.name {
		return badRequest("name in URL does not match name in Eviction object")
	}
	o := body.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	o, dry, err := checkDelete(o, t.query["dryRun"])
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.evictOnce(r, t, o, dry)
		if err == nil {
			break
		}
		if !apierrors.IsConflict(err) || o.Preconditions != nil || try == conflictTries {
			return err
		}
	}
	s.cfg.Log.Info("pod evicted", "pod", t.key().String(), "by", authz.UserFrom(r.Context()).Name)
	s.sendPlain(w, r, http.StatusCreated, success())
	return nil
}

func (s *Server) evictOnce(r *http.Request, t target, o *metav1.DeleteOptions, dry bool) error {
	old, err := s.live(r.Context(), t, "")
	if err != nil {
		return err
	}
	pod, ok := old.(*corev1.Pod)
	if !ok {
		return apierrors.NewMethodNotSupported(t.groupResource(), "evict")
	}
	del, err := s.deletion(r, old, o)
	if err != nil {
		return err
	}
	ops := []sequencer.Op{del}
	if budgeted(pod) {
		budget, err := s.budgetOf(pod)
		if err != nil {
			return err
		}
		if budget != nil && !unhealthyMayGo(pod, budget) {
			used, err := s.useBudget(budget, pod.Name)
			if err != nil {
				return err
			}
			// What the budget allowed was this very pod; the mark below asks for its version.
			del.UID = string(pod.UID)
			ops = []sequencer.Op{{Verb: sequencer.UpdateStatus, Key: object.KeyOf(used), Object: used, UID: string(used.UID), ResourceVersion: budget.ResourceVersion}, del}
		}
	}
	if pod.DeletionTimestamp == nil && !endedPod(pod) {
		marked := s.disrupted(pod)
		ops = append([]sequencer.Op{{Verb: sequencer.UpdateStatus, Key: del.Key, Object: marked, UID: string(pod.UID), ResourceVersion: pod.ResourceVersion}}, ops...)
	}
	_, err = s.cfg.Writer.Submit(r.Context(), sequencer.Request{User: authz.UserFrom(r.Context()).Name, Ops: ops, DryRun: dry})
	return nothingDone(err)
}

func endedPod(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// disrupted is the pod with the condition that tells why it goes: a Job's podFailurePolicy may ask for it.
func (s *Server) disrupted(p *corev1.Pod) *corev1.Pod {
	c := object.Copy(p)
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
	c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(s.cfg.Now().Truncate(time.Second)), Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting"})
	return c
}

// budgeted tells whether a pod's eviction disrupts anything: one that has ended, has not begun or is going already does not.
func budgeted(p *corev1.Pod) bool {
	switch p.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return false
	}
	return p.DeletionTimestamp == nil
}

// budgetOf finds the one disruption budget of a pod, nil if it has none.
func (s *Server) budgetOf(p *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	var found *policyv1.PodDisruptionBudget
	for o := range s.cfg.Store.View().List("poddisruptionbudgets", p.Namespace) {
		b, ok := o.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !sel.Matches(labels.Set(p.Labels)) {
			continue
		}
		if found != nil {
			return nil, apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support"))
		}
		found = b
	}
	return found, nil
}

// unhealthyMayGo tells whether a pod that is not ready may be evicted beside the budget.
func unhealthyMayGo(p *corev1.Pod, b *policyv1.PodDisruptionBudget) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	if u := b.Spec.UnhealthyPodEvictionPolicy; u != nil && *u == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// maxDisrupted bounds the pods that a budget remembers as being on their way, as in Kubernetes.
const maxDisrupted = 2000

// useBudget takes one disruption from a budget, or tells why there is none.
func (s *Server) useBudget(b *policyv1.PodDisruptionBudget, pod string) (*policyv1.PodDisruptionBudget, error) {
	if b.Status.ObservedGeneration < b.Generation {
		return nil, tooMany(b, "The disruption budget %s is still being processed by the server.", b.Name)
	}
	if b.Status.DisruptionsAllowed < 0 || len(b.Status.DisruptedPods) > maxDisrupted {
		return nil, apierrors.NewForbidden(policyv1.Resource("poddisruptionbudgets"), b.Name, fmt.Errorf("the budget's status does not let it be used"))
	}
	if b.Status.DisruptionsAllowed == 0 {
		return nil, tooMany(b, "The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	}
	next := object.Copy(b)
	next.Status.DisruptionsAllowed--
	next.Status.DisruptedPods = maps.Clone(next.Status.DisruptedPods)
	if next.Status.DisruptedPods == nil {
		next.Status.DisruptedPods = map[string]metav1.Time{}
	}
	next.Status.DisruptedPods[pod] = metav1.NewTime(s.cfg.Now())
	return next, nil
}

// tooMany is the refusal by a budget. Clients come again: kubectl drain every five seconds.
func tooMany(b *policyv1.PodDisruptionBudget, format string, args ...any) error {
	const retrySeconds = 10
	message := fmt.Sprintf(format, args...)
	e := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	if b.Status.ObservedGeneration < b.Generation {
		e.ErrStatus.Details.RetryAfterSeconds = retrySeconds
	}
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
	return e
}
