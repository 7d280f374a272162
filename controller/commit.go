package controller

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// maxWaiting bounds the list of objects that a commit waits for.
const maxWaiting = 100

// maxCommits is how many rows of the ledger a source keeps: the newest, the current one among them.
const maxCommits = 100

// commits follows the newest commit of each source until it is healthy: the status of each of its objects by kstatus' rules
// (kstatus.go). Its key is the source, its input commits and the objects that git owns, its output the commits' status. A
// commit that was not healthy when a newer one came is superseded, and what is older than the newest maxCommits is deleted.
type commits struct{}

func (commits) Name() string { return "commit" }
func (commits) Watches() []string {
	out := []string{"commits"}
	for _, k := range object.Kinds() {
		if k.FromGit {
			out = append(out, k.Resource)
		}
	}
	return out
}

func (commits) Keys(v View, ch Change, emit func(object.Key)) {
	if c, ok := ch.New.(*object.Commit); ok {
		emit(object.Key{Resource: "commits", Name: "source/" + c.Spec.Source})
		return
	}
	for _, o := range []object.Object{ch.Old, ch.New} {
		if o == nil {
			continue
		}
		if source := o.GetAnnotations()[object.AnnotationSource]; source != "" {
			emit(object.Key{Resource: "commits", Name: "source/" + source})
		}
	}
	// A pod tells why its Deployment waits. What a new pod changes, its owner's status shows.
	if ch.Key.Resource == "pods" && ch.Old != nil && ch.New != nil && PodReason(ch.Old.(*corev1.Pod)) != PodReason(ch.New.(*corev1.Pod)) {
		if top, ok := topOf(v, ch.New); ok {
			if source := top.GetAnnotations()[object.AnnotationSource]; source != "" {
				emit(object.Key{Resource: "commits", Name: "source/" + source})
			}
		}
	}
}

// topOf is the object at the top of an object's controlling owners, two steps up at most.
func topOf(v View, o object.Object) (object.Object, bool) {
	found := false
	for range 2 {
		ref := metav1.GetControllerOfNoCopy(o)
		if ref == nil {
			break
		}
		owner, state := ownerOf(v, o, *ref)
		if state != present {
			break
		}
		o, found = owner, true
	}
	return o, found
}

func (commits) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	source := strings.TrimPrefix(key.Name, "source/")
	var newest *object.Commit
	var all, open []*object.Commit
	for o := range v.List("commits", "") {
		c := o.(*object.Commit)
		if c.Spec.Source != source {
			continue
		}
		all = append(all, c)
		if newest == nil || laterCommit(c, newest) {
			newest = c
		}
		if c.Status.Phase == object.CommitCommitted || c.Status.Phase == object.CommitProgressing || c.Status.Phase == "" {
			open = append(open, c)
		}
	}
	res := Result{Delete: oldCommits(all, newest)}
	for _, c := range open {
		if c.Name != newest.Name {
			old := object.Copy(c)
			old.Status.Phase, old.Status.Waiting = object.CommitSuperseded, nil
			old.Status.Message = "superseded by commit " + newest.Name
			res.Put = append(res.Put, old)
		}
	}
	if newest == nil || final(newest.Status.Phase) && !cameAgain(newest) {
		return res, nil
	}
	c := object.Copy(newest)
	c.Status = followCommit(v, newest, now)
	res.Put = append(res.Put, c)
	return res, nil
}

// oldCommits are the deletions of the rows that are too many.
func oldCommits(all []*object.Commit, newest *object.Commit) []Deletion {
	if len(all) <= maxCommits {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *object.Commit) int {
		if first := boolFirst(a == newest, b == newest); first != 0 {
			return first
		}
		return cmp.Or(b.Spec.Received.Time.Compare(a.Spec.Received.Time), cmp.Compare(a.Name, b.Name))
	})
	var out []Deletion
	for _, c := range all[maxCommits:] {
		out = append(out, Deletion{Key: object.KeyOf(c)})
	}
	return out
}

// final tells whether nothing more happens to a commit in the phase. One that has failed may still become healthy.
func final(phase string) bool {
	return phase == object.CommitHealthy || phase == object.CommitRolledBack || phase == object.CommitSuperseded
}

// cameAgain tells whether the status is of an earlier time that the commit was pushed: a rollback brings an old commit back.
func cameAgain(c *object.Commit) bool {
	return c.Status.Committed == nil || c.Status.Committed.Time.Before(c.Spec.Received.Time)
}

// laterCommit orders commits of a source by when they were received.
func laterCommit(a, b *object.Commit) bool {
	if c := a.Spec.Received.Time.Compare(b.Spec.Received.Time); c != 0 {
		return c > 0
	}
	if b.Spec.Hash != "" && a.Spec.Parent == b.Spec.Hash {
		return true
	}
	return b.Spec.Parent != a.Spec.Hash && a.Name > b.Name
}

// followCommit is the status of the newest commit as things stand.
func followCommit(v View, c *object.Commit, now time.Time) object.CommitStatus {
	s := object.CommitStatus{Phase: object.CommitProgressing, Total: len(c.Spec.Objects), Committed: c.Status.Committed}
	stamp := metav1.NewMicroTime(now)
	if cameAgain(c) {
		// Whoever received it may have a clock that runs before the leader's.
		at := stamp
		for _, before := range []metav1.MicroTime{c.Spec.Received, c.Spec.Planned} {
			if at.Time.Before(before.Time) {
				at = before
			}
		}
		s.Committed = &at
	}
	var waiting []object.CommitWaiting
	failed := ""
	for _, ref := range c.Spec.Objects {
		status, message := kstatusOf(v, ref.Key())
		if status == statusCurrent {
			s.Current++
			continue
		}
		waiting = append(waiting, object.CommitWaiting{CommitObject: ref, Status: status, Message: message})
		if status == statusFailed && failed == "" {
			failed = ref.Key().String() + ": " + message
		}
	}
	// What has failed is told first.
	slices.SortStableFunc(waiting, func(a, b object.CommitWaiting) int {
		return boolFirst(a.Status == statusFailed, b.Status == statusFailed)
	})
	s.Waiting = waiting[:min(len(waiting), maxWaiting)]
	switch {
	case failed != "":
		s.Phase, s.Message = object.CommitFailed, failed
	case len(waiting) == 0:
		s.Phase, s.Healthy = object.CommitHealthy, &stamp
	default:
		s.Message = waiting[0].Key().String() + ": " + waiting[0].Message
	}
	return s
}
