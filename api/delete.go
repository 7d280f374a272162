package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/admission"
	"reconcile/authz"
	"reconcile/object"
	"reconcile/sequencer"
)

// deleteOptions reads the options of a deletion from the body (JSON or protobuf) or, where there is none, from the query.
func deleteOptions(r *http.Request) (*metav1.DeleteOptions, bool, error) {
	b, media, err := readBody(r)
	if err != nil {
		return nil, false, err
	}
	o := &metav1.DeleteOptions{}
	if err := decodePlain(b, media, o); err != nil {
		return nil, false, err
	}
	q := r.URL.Query()
	if v := q.Get("gracePeriodSeconds"); v != "" && len(b) == 0 {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, false, badRequest("%v", err)
		}
		o.GracePeriodSeconds = &n
	}
	if v := metav1.DeletionPropagation(q.Get("propagationPolicy")); v != "" && len(b) == 0 {
		o.PropagationPolicy = &v
	}
	if v := q.Get("orphanDependents"); v != "" && len(b) == 0 {
		orphan, err := strconv.ParseBool(v)
		if err != nil {
			return nil, false, badRequest("%v", err)
		}
		o.OrphanDependents = &orphan //nolint:staticcheck // old clients send it
	}
	return checkDelete(o, q["dryRun"])
}

// checkDelete judges delete options, however they came.
func checkDelete(o *metav1.DeleteOptions, query []string) (*metav1.DeleteOptions, bool, error) {
	o.DryRun = append(o.DryRun, query...)
	if faults := validation.ValidateDeleteOptions(o); len(faults) > 0 {
		return nil, false, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", faults)
	}
	return o, len(o.DryRun) > 0, nil
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, t target) error {
	o, dry, err := deleteOptions(r)
	if err != nil {
		return err
	}
	return s.remove(w, r, t, o, dry)
}

// remove deletes one object and answers: with the object while it is being deleted, and for some kinds always; else with a Status.
func (s *Server) remove(w http.ResponseWriter, r *http.Request, t target, o *metav1.DeleteOptions, dry bool) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	warnOfOrphans(w, t.kind, o)
	old, err := s.live(r.Context(), t, "")
	if err != nil {
		return err
	}
	last, err := s.drop(r, old, o, dry)
	if err != nil {
		return err
	}
	if t.kind.Returned || last.GetDeletionTimestamp() != nil && s.remains(r, t, last, dry) {
		s.sendObject(w, r, http.StatusOK, t.kind, a, last, fleeting)
		return nil
	}
	s.sendPlain(w, r, http.StatusOK, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: last.GetName(), Group: t.gv.Group, Kind: t.resource, UID: last.GetUID()},
	})
	return nil
}

// warnOfOrphans tells a client that does not say what is to become of the dependents what becomes of them, where that is not what most kinds do.
func warnOfOrphans(w http.ResponseWriter, k object.Kind, o *metav1.DeleteOptions) {
	if k.OrphansWarning != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil { //nolint:staticcheck // old clients send it
		warn(w, k.OrphansWarning)
	}
}

// drop submits one deletion and returns the object's last state.
func (s *Server) drop(r *http.Request, old object.Object, o *metav1.DeleteOptions, dry bool) (object.Object, error) {
	op, err := s.deletion(r, old, o)
	if err != nil {
		return nil, err
	}
	done, err := s.store(r, op, dry)
	return done.object, err
}

// deletion is the operation that deletes an object, if it may be deleted.
func (s *Server) deletion(r *http.Request, old object.Object, o *metav1.DeleteOptions) (sequencer.Op, error) {
	if err := admission.CheckDelete(old); err != nil {
		return sequencer.Op{}, err
	}
	if err := s.gitAllowsDelete(r, old); err != nil {
		return sequencer.Op{}, err
	}
	op := sequencer.Op{Verb: sequencer.Delete, Key: object.KeyOf(old), GracePeriodSeconds: o.GracePeriodSeconds, PropagationPolicy: string(propagation(old, o))}
	if p := o.Preconditions; p != nil {
		if err := precondition(old, p); err != nil {
			return sequencer.Op{}, err
		}
		if p.UID != nil {
			op.UID = string(*p.UID)
		}
		if p.ResourceVersion != nil {
			op.ResourceVersion = *p.ResourceVersion
		}
	}
	return op, nil
}

// propagation is what becomes of the dependents of an object that is deleted, "" for what its finalizers say: what the client asks for, else what an earlier
// deletion began, else what its kind does (k8s.io/apiserver/pkg/registry/generic/registry).
func propagation(old object.Object, o *metav1.DeleteOptions) metav1.DeletionPropagation {
	began := func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	}
	k, err := object.KindOfObject(old)
	switch orphan := o.OrphanDependents; { //nolint:staticcheck // old clients send it
	case orphan != nil && *orphan:
		return metav1.DeletePropagationOrphan
	case orphan != nil:
		return metav1.DeletePropagationBackground
	case o.PropagationPolicy != nil:
		return *o.PropagationPolicy
	case slices.ContainsFunc(old.GetFinalizers(), began):
		return ""
	case err == nil && k.Orphans:
		return metav1.DeletePropagationOrphan
	}
	return ""
}

// precondition refuses a deletion of another object than the one that was meant, in Kubernetes' words. The sequencer judges it again.
func precondition(old object.Object, p *metav1.Preconditions) error {
	k, err := object.KindOfObject(old)
	if err != nil {
		return err
	}
	kind := schema.GroupResource{Group: k.GVK.Group, Resource: k.GVK.Kind}
	if p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(kind, old.GetName(), fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, old.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(kind, old.GetName(), fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}

// remains tells whether an object whose deletion was asked for is still there, waiting for its grace period or a finalizer.
func (s *Server) remains(r *http.Request, t target, last object.Object, dry bool) bool {
	if dry {
		return true
	}
	rev, err := parseRev(last.GetResourceVersion())
	if err != nil || s.await(r.Context(), rev) != nil {
		return true
	}
	now, ok := s.cfg.Store.View().Get(t.key())
	return ok && now.GetUID() == last.GetUID()
}

// gitAllowsDelete refuses the deletion of what git owns, and of a namespace that holds such. What is already being deleted may be
// deleted for good: that is how an agent reports that a pod has stopped.
func (s *Server) gitAllowsDelete(r *http.Request, old object.Object) error {
	if old.GetDeletionTimestamp() != nil || authz.UserFrom(r.Context()).Node() != "" {
		return nil
	}
	if _, owned := admission.GitOwner(old); owned {
		return s.gitDenied(r.Context(), old, nil)
	}
	if key := object.KeyOf(old); key.Resource == namespaceResource {
		if o, found := s.ownedIn(key.Name); found {
			return s.gitDenied(r.Context(), o, nil)
		}
	}
	return nil
}

// namespaceResource is the kind whose deletion deletes what lives in it.
const namespaceResource = "namespaces"

// ownedIn finds an object in a namespace that git owns.
func (s *Server) ownedIn(namespace string) (object.Object, bool) {
	view := s.cfg.Store.View()
	for _, k := range object.Kinds() {
		if !k.Namespaced {
			continue
		}
		for o := range view.List(k.Resource, namespace) {
			if _, owned := admission.GitOwner(o); owned {
				return o, true
			}
		}
	}
	return nil, false
}

// deleteCollection deletes every object of a selection, one by one, and answers with what was deleted.
func (s *Server) deleteCollection(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartialList)
	if err != nil {
		return err
	}
	lo, err := parseListOptions(t)
	if err != nil {
		return err
	}
	o, dry, err := deleteOptions(r)
	if err != nil {
		return err
	}
	if t.kind.Namespaced && t.namespace == "" {
		return notAllowed()
	}
	warnOfOrphans(w, t.kind, o)
	p, err := s.collect(r, t, lo)
	if err != nil {
		return err
	}
	for _, old := range p.items {
		if _, err := s.drop(r, old, o, dry); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	parts, err := s.listBody(r, t.kind, a, p)
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, a.media, parts...)
	return nil
}
