package sequencer

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/mutant"
	"reconcile/object"
	"reconcile/scheduler"
)

// applier performs a request's own operations on an overlay, with their conditions. It settles nothing.
type applier struct {
	ranges admission.Ranges
	now    time.Time
	source string
	user   string
	// coming are the request's ServiceAccounts, by which its pods may go before they are made: in a push the one may stand before the other.
	coming map[object.Key]object.Object
}

// newApplier makes the one of a request.
func newApplier(req *Request, ranges admission.Ranges, now time.Time) applier {
	a := applier{ranges: ranges, now: now, source: req.Source, user: req.User}
	for i := range req.Ops {
		if op := &req.Ops[i]; op.Key.Resource == "serviceaccounts" && op.Verb == Create {
			if a.coming == nil {
				a.coming = map[object.Key]object.Object{}
			}
			a.coming[op.Key] = op.Object
		}
	}
	return a
}

// withComing is a state with a request's ServiceAccounts.
type withComing struct {
	*cluster.Overlay
	coming map[object.Key]object.Object
}

// Get implements admission.View.
func (v withComing) Get(k object.Key) (object.Object, bool) {
	if o, ok := v.Overlay.Get(k); ok || v.coming == nil {
		return o, ok
	}
	o, ok := v.coming[k]
	return o, ok
}

// op performs one operation. Errors are StatusErrors; the overlay is of no use after one.
func (a applier) op(o *cluster.Overlay, op *Op) error {
	kind, ok := object.KindOfResource(op.Key.Resource)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("unknown resource %q", op.Key.Resource))
	}
	if op.Verb != Delete && (op.Object == nil || object.KeyOf(op.Object) != op.Key) {
		return apierrors.NewBadRequest(fmt.Sprintf("the object of %s %s is missing or has another name, namespace or kind", op.Verb, op.Key))
	}
	live, exists := o.Get(op.Key)
	if op.Verb == Create {
		if exists {
			return alreadyExists(kind, live)
		}
		return a.create(o, op)
	}
	if !exists {
		return apierrors.NewNotFound(kind.GVR().GroupResource(), op.Key.Name)
	}
	if err := precondition(kind, op, live); err != nil {
		return err
	}
	switch op.Verb {
	case Update:
		return a.update(o, op, live)
	case UpdateStatus:
		return a.updateStatus(o, op, live)
	case Delete:
		return a.remove(o, op, live)
	}
	return apierrors.NewBadRequest(fmt.Sprintf("unknown verb %q", op.Verb))
}

// alreadyExists tells a creation that the name is taken, and whether it will be free soon.
func alreadyExists(kind object.Kind, live object.Object) error {
	err := apierrors.NewAlreadyExists(kind.GVR().GroupResource(), live.GetName())
	if live.GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

// precondition compares UID and resourceVersion, in Kubernetes' words.
func precondition(kind object.Kind, op *Op, live object.Object) error {
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(kind.GVR().GroupResource(), op.Key.Name, fmt.Errorf(format, args...))
	}
	if op.UID != "" && op.UID != string(live.GetUID()) {
		return conflict("Precondition failed: UID in precondition: %s, UID in object meta: %s", op.UID, live.GetUID())
	}
	if op.ResourceVersion != "" && op.ResourceVersion != live.GetResourceVersion() {
		if op.Verb == Delete {
			return conflict("Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s", op.ResourceVersion, live.GetResourceVersion())
		}
		return conflict("the object has been modified; please apply your changes to the latest version and try again")
	}
	return nil
}

// own is a copy with apiVersion and kind set, as stored objects have them.
func own(o object.Object) object.Object {
	c := object.Copy(o)
	if k, err := object.KindOfObject(o); err == nil {
		c.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	return c
}

func (a applier) create(o *cluster.Overlay, op *Op) error {
	obj := own(op.Object)
	if err := admission.CheckNamespace(o, obj); err != nil {
		return err
	}
	if err := admission.CheckSubject(obj); err != nil {
		return err
	}
	uid := obj.GetUID()
	if uid == "" {
		uid = uuid.NewUUID()
	}
	stampLease(obj, nil, a.now)
	if p, ok := obj.(*corev1.Pod); ok {
		if err := admission.DefaultAccount(withComing{o, a.coming}, p); err != nil {
			return err
		}
		if err := admission.DefaultRuntime(o, p); err != nil {
			return err
		}
		admission.DefaultResources(o, p)
	}
	admission.PrepareCreate(obj, uid, a.now)
	if pod, ok := obj.(*corev1.Pod); ok {
		if err := scheduler.Admit(o, pod); err != nil {
			return apierrors.NewForbidden(corev1.Resource("pods"), obj.GetName(), err)
		}
	}
	if err := check(o, obj, nil); err != nil {
		return err
	}
	if err := admission.Allocate(o, obj, nil, a.ranges); err != nil {
		return err
	}
	quotas := controller.BeforeWrite(o, obj, nil, a.now)
	o.Put(obj)
	return quotas.After(o)
}

// check refuses what else is in the cluster does not allow; live is nil for a creation.
func check(o *cluster.Overlay, obj, live object.Object) error {
	if err := admission.CheckDefaultClass(o, obj); err != nil {
		return err
	}
	return admission.CheckLimits(o, obj, live)
}

func (a applier) update(o *cluster.Overlay, op *Op, live object.Object) error {
	obj := own(op.Object)
	stampLease(obj, live, a.now)
	if a.source == "" {
		if err := a.prepare(op, obj, live); err != nil {
			return err
		}
	} else {
		admission.PrepareUpdate(obj, live)
	}
	if a.source == "" {
		paths, err := admission.GitOwnedConflicts(live, obj)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("compare %s with what git owns: %w", op.Key, err))
		}
		if len(paths) > 0 {
			fields := make([]admission.SetField, len(paths))
			for i, p := range paths {
				fields[i].Path = p
			}
			return admission.GitDenied(live, a.user, fields)
		}
	}
	if err := admission.Allocate(o, obj, live, a.ranges); err != nil {
		return err
	}
	if err := check(o, obj, live); err != nil {
		return err
	}
	quotas := controller.BeforeWrite(o, obj, live, a.now)
	put(o, obj, live)
	return quotas.After(o)
}

func (a applier) updateStatus(o *cluster.Overlay, op *Op, live object.Object) error {
	obj := own(op.Object)
	if op.ResourceVersion == "" {
		admission.KeepReported(obj, live)
	}
	if op.Subresource == "" {
		admission.PrepareStatusUpdate(obj, live, a.now)
	} else if err := a.prepare(op, obj, live); err != nil {
		return err
	}
	put(o, obj, live)
	return nil
}

// prepare makes obj what is to be stored in place of live.
func (a applier) prepare(op *Op, obj, live object.Object) error {
	kind, _ := object.KindOfResource(op.Key.Resource)
	how, ok := admission.WriteOf(kind, op.Subresource)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("%s have no subresource %q that can be written", op.Key.Resource, op.Subresource))
	}
	how.Prepare(obj, live, a.now)
	return nil
}

// put stores a replacement, or removes it if its deletion waited only for this, or does nothing if nothing changed.
func put(o *cluster.Overlay, obj, live object.Object) {
	obj.SetResourceVersion(live.GetResourceVersion())
	switch {
	case controller.Finished(obj):
		o.Delete(object.KeyOf(obj))
	case !equality.Semantic.DeepEqual(obj, live):
		o.Put(obj)
	}
}

func (a applier) remove(o *cluster.Overlay, op *Op, live object.Object) error {
	if err := admission.CheckDelete(live); err != nil {
		return err
	}
	if a.source == "" && live.GetDeletionTimestamp() == nil {
		if err := a.mayRemove(o, live); err != nil {
			return err
		}
	}
	next, gone := controller.BeginDelete(live, deleteOptions(op), a.now)
	switch {
	case gone:
		o.Delete(op.Key)
	case next != nil:
		o.Put(next)
	}
	return nil
}

func deleteOptions(op *Op) controller.DeleteOptions {
	return controller.DeleteOptions{GracePeriodSeconds: op.GracePeriodSeconds, PropagationPolicy: op.PropagationPolicy}
}

// mayRemove refuses the deletion of what git owns, and of a namespace that holds something that git owns.
func (a applier) mayRemove(o *cluster.Overlay, live object.Object) error {
	if _, owned := admission.GitOwner(live); owned {
		return admission.GitDenied(live, a.user, nil)
	}
	ns, ok := live.(*corev1.Namespace)
	if !ok {
		return nil
	}
	for _, k := range object.Kinds() {
		if !k.Namespaced || !k.FromGit {
			continue
		}
		for obj := range o.List(k.Resource, ns.Name) {
			if _, owned := admission.GitOwner(obj); owned {
				return admission.GitDenied(obj, a.user, nil)
			}
		}
	}
	return nil
}

// rawValue is a key's value outside /registry; absent is a deletion.
type rawValue struct {
	value  []byte
	absent bool
	ref    bool
}

// rawLayer is writes of raw keys over a state of them.
type rawLayer struct {
	below func(key string) ([]byte, bool)
	own   map[string]rawValue
	order []string
}

func newRawLayer(below func(string) ([]byte, bool)) *rawLayer {
	return &rawLayer{below: below, own: map[string]rawValue{}}
}

func (l *rawLayer) get(key string) ([]byte, bool) {
	if v, ok := l.own[key]; ok {
		return v.value, !v.absent
	}
	return l.below(key)
}

func (l *rawLayer) set(key string, v rawValue) {
	if _, ok := l.own[key]; !ok {
		l.order = append(l.order, key)
	}
	l.own[key] = v
}

// take writes what another layer holds.
func (l *rawLayer) take(o *rawLayer) {
	for _, key := range o.order {
		l.set(key, o.own[key])
	}
}

// raw performs one raw write. blobs are the digests that the request refers to: a value that is one of them holds its blob.
func (l *rawLayer) raw(w *Raw, blobs map[string]bool) error {
	if _, err := object.ParsePath(w.Key); err == nil || w.Key == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%q is not a raw key: objects are written by operations", w.Key))
	}
	if w.Check && !mutant.SkipOldValue {
		have, ok := l.get(w.Key)
		if ok != (w.Expect != nil) || !bytes.Equal(have, w.Expect) {
			return fmt.Errorf("write %s: %w", w.Key, ErrStale)
		}
	}
	l.set(w.Key, rawValue{value: w.Value, absent: w.Value == nil, ref: blobs[string(w.Value)]})
	return nil
}

// unknownOutcome is the answer where nobody can tell whether the write was committed: 504 without Retry-After, so that no client
// repeats it unasked.
func unknownOutcome(err error) error {
	return apierrors.NewTimeoutError(fmt.Sprintf("the outcome of the write is unknown: it may have been committed (%v)", err), 0)
}

// errAgain tells that the request was certainly not committed because leadership moved: it may be tried again.
var errAgain = errors.New("the request was not committed: leadership moved")
