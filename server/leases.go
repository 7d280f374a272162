package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// How often a server renews its lease, and how long one holds.
const (
	leaseEvery   = 10 * time.Second
	leaseSeconds = 40
	// leaseRetry is the first pause after a failure; it doubles up to leaseMaxRetry. At the very first start the namespace is not
	// there yet, and comes within milliseconds.
	leaseRetry    = 5 * time.Millisecond
	leaseMaxRetry = time.Second
)

// leases writes the leases by which the control plane tells of itself: that this server lives and where it serves the API, and, while
// it leads, since when.
type leases struct {
	store   *raftstore.Store
	seq     *sequencer.Sequencer
	id      string
	address string
	disk    *disk
	log     *slog.Logger
}

// run renews until ctx ends. first is called once this member shows all that was committed before its start, and its own
// lease has been written. Its lease alone is no sign of that: the leader has it from before a restart, while the state here is still empty.
func (l *leases) run(ctx context.Context, first func()) error {
	led, retry := uint64(0), leaseRetry
	for {
		changed := l.store.LeaderChanged()
		wait, failed := leaseEvery, false
		var err error
		if first != nil {
			err = l.seq.Barrier(ctx)
		}
		if err == nil {
			err = l.renew(ctx, controller.ServerLeasePrefix+l.id, time.Time{})
		}
		if err != nil {
			if ctx.Err() == nil {
				l.log.Debug("cannot renew the server's lease; trying again", "error", err)
			}
			failed = true
		} else if first != nil {
			first()
			first = nil
		}
		if leader := l.store.Leader(); leader.Self && leader.Term != led {
			if err := l.renew(ctx, controller.LeaderLease, time.Now()); err != nil {
				failed = true
			} else {
				led = leader.Term
			}
		}
		if failed {
			wait, retry = retry, min(2*retry, leaseMaxRetry)
		} else {
			retry = leaseRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		case <-changed:
		}
	}
}

// renew creates or renews one lease. acquired, if set, is the beginning of a new holder's term.
func (l *leases) renew(ctx context.Context, name string, acquired time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	now := metav1.NewMicroTime(time.Now())
	seconds := int32(leaseSeconds)
	key := object.Key{Resource: "leases", Namespace: metav1.NamespaceSystem, Name: name}
	op := sequencer.Op{Verb: sequencer.Update, Key: key}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if old, ok := cluster.NewView(l.store.View()).Get(key); ok {
		lease = object.Copy(old.(*coordinationv1.Lease))
		op.UID = string(old.GetUID())
	} else {
		op.Verb = sequencer.Create
		admission.PrepareCreate(lease, uuid.NewUUID(), now.Time)
	}
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, controller.AnnotationAddress, l.address)
	if usage, err := json.Marshal(l.store.Disk()); err == nil {
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, controller.AnnotationStore, string(usage))
	}
	if low := l.disk.message(); low != "" {
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, controller.AnnotationDisk, low)
	} else {
		delete(lease.Annotations, controller.AnnotationDisk)
	}
	lease.Spec.HolderIdentity = &l.id
	lease.Spec.LeaseDurationSeconds = &seconds
	lease.Spec.RenewTime = &now
	if !acquired.IsZero() || lease.Spec.AcquireTime == nil {
		lease.Spec.AcquireTime = &now
	}
	lease.ResourceVersion = ""
	op.Object = lease
	_, err := l.seq.Submit(ctx, sequencer.Request{User: "reconcile:server:" + l.id, Ops: []sequencer.Op{op}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
