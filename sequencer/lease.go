package sequencer

import (
	"iter"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/mutant"
	"reconcile/object"
	"reconcile/raftstore"
)

// leases are the renewals of node leases that the leader keeps in memory: every node renews each 10 s, and an entry for each would be
// most of the log. Controllers see them at once (leaseReader); the store gets their times all together, one entry every LeaseCheckpoint
// that takes no revision (raftstore.Touch), so that every server shows them and a new leader begins with them. Such an entry wakes no
// controller: a node that is Ready looks again when its time would be over, and one that is not is woken by its renewal (tenure.revive).
//
// When a lease was renewed is the leader's own observation on its monotonic clock: a node's clock may be wrong, and the leader's jump.
type leases struct {
	mu      sync.RWMutex
	renewed map[object.Key]renewal
}

// renewal is a lease as it was renewed, and when, with a monotonic reading. stored tells that a checkpoint has written it; shown is the
// cluster's time of it, set for a checkpoint.
type renewal struct {
	lease  *coordinationv1.Lease
	at     time.Time
	stored bool
	shown  time.Time
}

// stampLease makes a sign of life that is written to the store one of the cluster's time: the clock of whoever gives it may be wrong.
// Those are the leases of nodes, and of servers and leader (controller.ServerLeasePrefix, controller.LeaderLease).
func stampLease(obj object.Object, live object.Object, now time.Time) {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok || l.Spec.RenewTime == nil {
		return
	}
	server := l.Namespace == metav1.NamespaceSystem && (l.Name == controller.LeaderLease || strings.HasPrefix(l.Name, controller.ServerLeasePrefix))
	if l.Namespace != corev1.NamespaceNodeLease && !server {
		return
	}
	stamp := metav1.NewMicroTime(now)
	l.Spec.RenewTime = &stamp
	was, _ := live.(*coordinationv1.Lease)
	if began := l.Spec.AcquireTime; began != nil && (was == nil || was.Spec.AcquireTime == nil || !began.Equal(was.Spec.AcquireTime)) {
		l.Spec.AcquireTime = &stamp
	}
}

func newLeases() *leases { return &leases{renewed: map[object.Key]renewal{}} }

// renewal tells whether a request only renews a node's lease, and returns the lease as it is then. The resourceVersion stays that
// of the store, and is not asked for: only the holder renews.
func (l *leases) renewal(v cluster.Reader, req *Request, now time.Time) (*coordinationv1.Lease, bool) {
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
	stamp := metav1.NewMicroTime(now)
	renewed.Spec.RenewTime = &stamp
	return renewed, true
}

func (l *leases) keep(r *coordinationv1.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed[object.KeyOf(r)] = renewal{lease: r, at: mutant.LeaseNow()}
}

// unwritten are the renewals since the last checkpoint, with the times that they are shown with. Those of
// leases that are no more are forgotten.
func (l *leases) unwritten(now leaseReader) map[object.Key]renewal {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[object.Key]renewal{}
	for k, kept := range l.renewed {
		o, ok := now.Reader.Get(k)
		if !ok || o.GetUID() != kept.lease.UID {
			delete(l.renewed, k)
		} else if !kept.stored {
			kept.shown = now.shown(kept)
			out[k] = kept
		}
	}
	return out
}

// written notes that a checkpoint has written renewals. They are kept: how old they are is still measured here.
func (l *leases) written(list map[object.Key]renewal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, was := range list {
		if kept, ok := l.renewed[k]; ok && kept.at.Equal(was.at) {
			kept.stored = true
			l.renewed[k] = kept
		}
	}
}

func touches(list map[object.Key]renewal) []raftstore.Touched {
	out := make([]raftstore.Touched, 0, len(list))
	for k, kept := range list {
		out = append(out, raftstore.Touched{Key: k.Path(), At: kept.shown})
	}
	return out
}

// leaseReader is a state with the kept renewals in the place of the stored leases. now is the time of the decision, at the same
// moment on the monotonic clock: a lease is shown as renewed as long before now as it was before at.
type leaseReader struct {
	cluster.Reader
	l       *leases
	now, at time.Time
}

// shown is the cluster's time of a renewal.
func (r leaseReader) shown(kept renewal) time.Time { return r.now.Add(kept.at.Sub(r.at)) }

// latest is o, or the same lease with its kept renewal.
func (r leaseReader) latest(o object.Object) object.Object {
	live, ok := o.(*coordinationv1.Lease)
	if !ok {
		return o
	}
	r.l.mu.RLock()
	kept, ok := r.l.renewed[object.KeyOf(o)]
	r.l.mu.RUnlock()
	if !ok || kept.lease.UID != live.UID || live.Spec.HolderIdentity == nil || *live.Spec.HolderIdentity != *kept.lease.Spec.HolderIdentity {
		return o // another lease by now, or another holder's
	}
	stamp := metav1.NewMicroTime(r.shown(kept))
	if live.Spec.RenewTime != nil && !live.Spec.RenewTime.Before(&stamp) {
		return o
	}
	next := object.Copy(live)
	next.Spec.RenewTime = &stamp
	return next
}

// Get implements cluster.Reader.
func (r leaseReader) Get(k object.Key) (object.Object, bool) {
	o, ok := r.Reader.Get(k)
	if !ok || k.Resource != "leases" {
		return o, ok
	}
	return r.latest(o), true
}

// List implements cluster.Reader.
func (r leaseReader) List(resource, namespace string) iter.Seq[object.Object] {
	if resource != "leases" {
		return r.Reader.List(resource, namespace)
	}
	return func(yield func(object.Object) bool) {
		for o := range r.Reader.List(resource, namespace) {
			if !yield(r.latest(o)) {
				return
			}
		}
	}
}

// Owned implements cluster.Reader: a lease may be owned by its node.
func (r leaseReader) Owned(owner types.UID) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for o := range r.Reader.Owned(owner) {
			if !yield(r.latest(o)) {
				return
			}
		}
	}
}
