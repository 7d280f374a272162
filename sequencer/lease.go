package sequencer

import (
	"iter"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/raftstore"
)

// leases are the renewals of node leases that the leader keeps in memory: every node renews each 10 s, and an entry for each would be
// most of the log. Controllers see them at once (leaseReader); the store gets their times all together, one entry every LeaseCheckpoint
// that takes no revision (raftstore.Touch), so that every server shows them and a new leader begins with them. Such an entry wakes no
// controller: a node that is Ready looks again when its time would be over, and one that is not is woken by its renewal (tenure.revive).
type leases struct {
	mu      sync.RWMutex
	renewed map[object.Key]*coordinationv1.Lease
}

func newLeases() *leases { return &leases{renewed: map[object.Key]*coordinationv1.Lease{}} }

// renewal tells whether a request only renews a node's lease, and returns the lease as it is then. The resourceVersion stays that
// of the store, and is not asked for: only the holder renews.
func (l *leases) renewal(v cluster.Reader, req *Request) (*coordinationv1.Lease, bool) {
	if len(req.Ops) != 1 || len(req.Raw) > 0 || req.DryRun {
		return nil, false
	}
	op := &req.Ops[0]
	if op.Verb != Update || op.Key.Resource != "leases" || op.Key.Namespace != corev1.NamespaceNodeLease {
		return nil, false
	}
	next, ok := op.Object.(*coordinationv1.Lease)
	if !ok || next.Spec.HolderIdentity == nil || next.Spec.RenewTime == nil {
		return nil, false
	}
	live, ok := v.Get(op.Key)
	if !ok || live.GetDeletionTimestamp() != nil || (op.UID != "" && op.UID != string(live.GetUID())) {
		return nil, false
	}
	was := live.(*coordinationv1.Lease)
	if was.Spec.HolderIdentity == nil || *was.Spec.HolderIdentity != *next.Spec.HolderIdentity || was.Spec.RenewTime == nil {
		return nil, false
	}
	renewed := object.Copy(was)
	renewed.Spec.RenewTime = next.Spec.RenewTime
	return renewed, true
}

func (l *leases) keep(r *coordinationv1.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed[object.KeyOf(r)] = r
}

// latest is o, or the kept renewal of the same lease if that is newer.
func (l *leases) latest(o object.Object) object.Object {
	live, ok := o.(*coordinationv1.Lease)
	if !ok {
		return o
	}
	l.mu.RLock()
	kept := l.renewed[object.KeyOf(o)]
	l.mu.RUnlock()
	switch {
	case kept == nil || kept.UID != live.UID || !renewTime(live).Before(renewTime(kept)):
		return o
	case kept.ResourceVersion == live.ResourceVersion:
		return kept
	}
	next := object.Copy(live) // something else of the lease was written since
	next.Spec.RenewTime = kept.Spec.RenewTime
	return next
}

// newer are the kept renewals that stored does not show yet; those that it shows are forgotten.
func (l *leases) newer(stored cluster.Reader) []raftstore.Touched {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []raftstore.Touched
	for k, kept := range l.renewed {
		o, ok := stored.Get(k)
		live, isLease := o.(*coordinationv1.Lease)
		if !ok || !isLease || live.UID != kept.UID || !renewTime(live).Before(renewTime(kept)) {
			delete(l.renewed, k)
			continue
		}
		out = append(out, raftstore.Touched{Key: k.Path(), At: renewTime(kept)})
	}
	return out
}

func renewTime(l *coordinationv1.Lease) time.Time {
	if l.Spec.RenewTime == nil {
		return time.Time{}
	}
	return l.Spec.RenewTime.Time
}

// leaseReader is a state with the kept renewals in the place of the stored leases.
type leaseReader struct {
	cluster.Reader
	l *leases
}

// Get implements cluster.Reader.
func (r leaseReader) Get(k object.Key) (object.Object, bool) {
	o, ok := r.Reader.Get(k)
	if !ok || k.Resource != "leases" {
		return o, ok
	}
	return r.l.latest(o), true
}

// List implements cluster.Reader.
func (r leaseReader) List(resource, namespace string) iter.Seq[object.Object] {
	if resource != "leases" {
		return r.Reader.List(resource, namespace)
	}
	return func(yield func(object.Object) bool) {
		for o := range r.Reader.List(resource, namespace) {
			if !yield(r.l.latest(o)) {
				return
			}
		}
	}
}

// Owned implements cluster.Reader: a lease may be owned by its node.
func (r leaseReader) Owned(owner types.UID) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for o := range r.Reader.Owned(owner) {
			if !yield(r.l.latest(o)) {
				return
			}
		}
	}
}
