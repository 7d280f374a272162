package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A pod that waits is not tried while nothing happens that may let a node take it. Why no node does may change all the same: a node that gets the label it
// asks for may have too little room. So classes that were tried before something happened are stale: some are tried again when the caller has time for it, and
// what then is another reason than pods say is for the caller to tell.

// maxAlike is how many pods one decision names that say otherwise.
const maxAlike = 20

// takeIn takes in what happened since the last step.
func (s *Snapshot) takeIn() {
	w := s.waiting
	s.hear()
	if w.stirred {
		w.stirs++
		w.stirred = false
	}
}

// isTried notes that a class was tried now. Pinned pods are tried whenever their node stirs.
func (w *waiting) isTried(r *refused) {
	w.stale.Delete(r)
	r.tried = w.stirs
	if !r.pinned {
		w.stale.ReplaceOrInsert(r)
	}
}

// Stale tells whether there are pods that may wait for another reason than when they were tried. Of a snapshot that is not kept there are none.
func (s *Snapshot) Stale() bool {
	if s.keeping == nil {
		return false
	}
	r, ok := s.waiting.stale.Min()
	return ok && r.tried < s.waiting.stirs
}

// TryStale has ScheduleWaiting try a pod of each of at most n classes, those that were tried longest ago, if something happened since then.
func (s *Snapshot) TryStale(n int) {
	if s.keeping == nil {
		return
	}
	w := s.waiting
	s.takeIn()
	w.stale.Ascend(func(r *refused) bool {
		if r.tried == w.stirs || n == 0 {
			return false
		}
		n--
		if p, ok := r.pods.Min(); ok {
			s.try(p)
		}
		return true
	})
}

// sayOther are pods of p's class that say that they wait for something else than message tells. Each pod of a gang has a decision of its own.
func (w *waiting) sayOther(p *waiter, message string) (out []*corev1.Pod) {
	r := p.class
	reasons := reasonsIn(message)
	if r.pinned || r.gang != nil || r.told == reasons {
		return nil
	}
	r.told = reasons
	r.pods.Ascend(func(q *waiter) bool {
		if q == p || !SaysOther(q.pod, message) {
			return true
		}
		out = append(out, q.pod)
		if len(out) == maxAlike {
			r.told = "" // there may be more
			return false
		}
		return true
	})
	return out
}

// SaysOther tells whether a pod that waits was told other reasons than those of a message.
func SaysOther(p *corev1.Pod, message string) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Message != message && reasonsIn(c.Message) != reasonsIn(message)
		}
	}
	return false
}

// reasonsIn is a message without its counts: that more or fewer nodes say the same is no news. Numbers within names, as of resources, stay.
func reasonsIn(message string) string {
	words := strings.FieldsFunc(message, func(r rune) bool { return r == ' ' || r == '/' })
	words = slices.DeleteFunc(words, func(w string) bool { return strings.Trim(w, "0123456789") == "" })
	return strings.Join(words, " ")
}
