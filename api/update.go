package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/admission"
	"reconcile/authz"
	"reconcile/object"
	"reconcile/sequencer"
)

// conflictTries is how often a write that sets no resourceVersion is computed anew because somebody else was faster.
const conflictTries = 8

// change computes the new object of an update from the stored one, which it must not change. The result is the caller's.
type change func(old object.Object) (object.Object, error)

func (s *Server) update(w http.ResponseWriter, r *http.Request, t target) error {
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	body, strict, err := decodeObject(t.kind, b, media)
	if err != nil {
		return err
	}
	if err := judgeStrict(w, r, t.kind, strict); err != nil {
		return err
	}
	if body.GetName() == "" {
		return nameless(t)
	}
	if err := placeObject(body, t); err != nil {
		return err
	}
	if body, err = asStored(body, t.kind); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.modify(w, r, t, func(old object.Object) (object.Object, error) {
			if uid := body.GetUID(); uid != "" && uid != old.GetUID() {
				return nil, otherUID(t, body, old.GetUID())
			}
			if err := namesVersion(t, body); err != nil {
				return nil, err
			}
			return object.Copy(body), nil
		})
		if !apierrors.IsNotFound(err) || t.subresource != "" || !admission.CreatesByUpdate(t.kind) {
			return err
		}
		if err := s.createByUpdate(w, r, t, body); !apierrors.IsAlreadyExists(err) || try == conflictTries {
			return err
		}
	}
}

// otherUID refuses the replacement of an object by one that was meant for another, or for one that is gone (has is empty then).
func otherUID(t target, body object.Object, has types.UID) error {
	key := t.key().Path()
	if t.query.Has("dryRun") {
		key = strings.TrimPrefix(key, "/registry") // Kubernetes' own words
	}
	return apierrors.NewConflict(t.groupResource(), t.name, fmt.Errorf(
		"StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %v, UID in object meta: %v",
		key, body.GetUID(), has))
}

// namesVersion refuses a replacement without a version where the kind asks for one.
func namesVersion(t target, o object.Object) error {
	if rv := o.GetResourceVersion(); rv != "" && rv != "0" || !admission.NeedsVersion(t.kind) {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: t.gv.Group, Kind: t.resource}, t.name, field.ErrorList{
		field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
}

// createByUpdate makes the object of a replacement that found nothing to replace. body stays as it is.
func (s *Server) createByUpdate(w http.ResponseWriter, r *http.Request, t target, body object.Object) error {
	if body.GetUID() != "" {
		return otherUID(t, body, "")
	}
	if _, err := parseRev(body.GetResourceVersion()); err != nil {
		return err
	}
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	o := object.Copy(body)
	admission.Default(o)
	if o, err = s.manage(r, t, o, t.kind.Stored().New()); err != nil {
		return err
	}
	if o, err = s.complete(w, r, t, o); err != nil {
		return err
	}
	if err := s.authorizeCreate(r, t, o); err != nil {
		return err
	}
	made, err := s.storeNew(r, o, dry)
	if err != nil {
		return err
	}
	if dry { // nothing gave it a version, so it shows the one it came with, as in Kubernetes
		made.object = object.Copy(made.object)
		made.object.SetResourceVersion(body.GetResourceVersion())
	}
	s.sendObject(w, r, http.StatusCreated, t.kind, a, made.object, made.how)
	return nil
}

// nameless refuses a replacement without a name.
func nameless(t target) error {
	return badRequest("the name of the object (%s based on URL) was undeterminable: name must be provided", t.name)
}

// modify reads the stored object, computes its replacement and stores that. It begins again when somebody else was faster and the
// client did not say which version it means.
func (s *Server) modify(w http.ResponseWriter, r *http.Request, t target, f change) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	done, err := s.rewrite(w, r, t, dry, f)
	if err != nil {
		return err
	}
	s.sendObject(w, r, http.StatusOK, t.kind, a, done.object, done.how)
	return nil
}

// rewrite is modify without the answer.
func (s *Server) rewrite(w http.ResponseWriter, r *http.Request, t target, dry bool, f change) (written, error) {
	for try := 1; ; try++ {
		old, err := s.live(r.Context(), t, "")
		if err != nil {
			return written{}, err
		}
		o, err := f(old)
		if err != nil {
			return written{}, err
		}
		free := o.GetResourceVersion() == "" || o.GetResourceVersion() == "0"
		done, err := s.replace(r, t, edit{object: o, dry: dry, w: w}, old)
		if err == nil {
			return done, nil
		}
		if !free || !apierrors.IsConflict(err) || t.hasUID(err) {
			return written{}, err
		}
		if try == conflictTries {
			return written{}, apierrors.NewConflict(t.groupResource(), t.name, errBusy)
		}
	}
}

// hasUID tells whether a conflict is about the object's UID: trying again does not cure that.
func (t target) hasUID(err error) bool {
	st := statusOf(err)
	return st.Details != nil && len(st.Details.Causes) > 0 && st.Details.Causes[0].Field == "metadata.uid"
}

// edit is one replacement of an object. The object is the edit's.
type edit struct {
	object object.Object
	// managed tells that its managedFields are settled: it comes from an apply.
	managed bool
	dry     bool
	// w takes the warnings.
	w http.ResponseWriter
}

// replace judges one replacement and submits it. A replacement that changes nothing is answered without a write.
func (s *Server) replace(r *http.Request, t target, e edit, old object.Object) (written, error) {
	o := e.object
	if rv := o.GetResourceVersion(); rv != "" && rv != "0" && rv != old.GetResourceVersion() {
		return written{}, apierrors.NewConflict(t.groupResource(), t.name,
			errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if err := admission.Invalid(o, admission.ValidateKept(o, old)); err != nil {
		return written{}, err
	}
	how, ok := admission.WriteOf(t.kind, t.subresource)
	if !ok {
		return written{}, apierrors.NewMethodNotSupported(t.groupResource(), "update")
	}
	op := sequencer.Op{Verb: sequencer.Update, UID: string(old.GetUID()), ResourceVersion: old.GetResourceVersion(), Subresource: t.subresource}
	o.SetResourceVersion(old.GetResourceVersion())
	o.SetUID(old.GetUID())
	admission.Default(o)
	if !e.managed {
		var err error
		if o, err = s.manage(r, t, o, old); err != nil {
			return written{}, err
		}
	}
	if how.Status {
		op.Verb = sequencer.UpdateStatus
		if authz.UserFrom(r.Context()).Node() != "" {
			admission.KeepReported(o, old)
		}
	}
	how.Prepare(o, old, s.cfg.Now())
	if err := admission.Invalid(o, how.Validate(o, old)); err != nil {
		return written{}, err
	}
	if err := s.gitAllows(r, o, old); err != nil {
		return written{}, err
	}
	if t.subresource == "" {
		for _, text := range admission.Warnings(o, old) {
			warn(e.w, text)
		}
	}
	keepTimes(o, old)
	if equality.Semantic.DeepEqual(o, old) {
		return written{old, stored}, nil
	}
	op.Object = o
	return s.store(r, op, e.dry)
}

// gitAllows refuses a write to fields that git owns, naming field, commit, file and line.
func (s *Server) gitAllows(r *http.Request, o, old object.Object) error {
	paths, err := admission.GitOwnedConflicts(old, o)
	if err != nil || len(paths) == 0 {
		return err
	}
	return s.gitDenied(r.Context(), old, paths)
}

// gitDenied is the refusal, with each field's own file and line where gitops knows them.
func (s *Server) gitDenied(ctx context.Context, old object.Object, paths []string) error {
	fields := make([]admission.SetField, len(paths))
	for i, p := range paths {
		fields[i].Path = p
		if s.cfg.Origins == nil {
			continue
		}
		if at, ok := s.cfg.Origins.Origin(object.KeyOf(old), p); ok {
			fields[i].File = fmt.Sprintf("%s:%d", at.File, at.Line)
		}
	}
	return admission.GitDenied(old, authz.UserFrom(ctx).Name, fields)
}
