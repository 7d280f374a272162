package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"reconcile/admission"
	"reconcile/authz"
	"reconcile/object"
	"reconcile/sequencer"
)

// generatedTries is how many names are tried for an object with generateName.
const generatedTries = 8

func (s *Server) create(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	if t.kind.Namespaced && t.namespace == "" {
		return notAllowed()
	}
	o, err := s.newObject(w, r, t)
	if err != nil {
		return err
	}
	if err := s.authorizeCreate(r, t, o); err != nil {
		return err
	}
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	stem := o.GetGenerateName()
	generated := o.GetName() == "" && stem != ""
	for try := 1; ; try++ {
		if generated {
			// The stem is cut so that the name stays a label, as in Kubernetes.
			o.SetName(stem[:min(len(stem), 58)] + utilrand.String(5))
		}
		made, err := s.storeNew(r, o, dry)
		if err == nil {
			s.sendObject(w, r, http.StatusCreated, t.kind, a, made.object, made.how)
			return nil
		}
		if !generated || !apierrors.IsAlreadyExists(err) || try == generatedTries {
			return err
		}
		o = object.Copy(o)
	}
}

// newObject reads, completes and validates the object of a create.
func (s *Server) newObject(w http.ResponseWriter, r *http.Request, t target) (object.Object, error) {
	b, media, err := readBody(r)
	if err != nil {
		return nil, err
	}
	o, strict, err := decodeObject(t.kind, b, media)
	if err != nil {
		return nil, err
	}
	if err := judgeStrict(w, r, t.kind, strict); err != nil {
		return nil, err
	}
	if err := placeObject(o, t); err != nil {
		return nil, err
	}
	if o.GetResourceVersion() != "" {
		return nil, badRequest("resourceVersion should not be set on objects to be created")
	}
	if o, err = asStored(o, t.kind); err != nil {
		return nil, err
	}
	admission.Default(o)
	if o, err = s.manage(r, t, o, t.kind.Stored().New()); err != nil {
		return nil, err
	}
	return s.complete(w, r, t, o)
}

// complete makes an object of the stored version, whose fields have their managers, ready to be stored as a new one, and judges it.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, t target, o object.Object) (object.Object, error) {
	view := s.cfg.Store.View()
	if err := admission.CheckNamespace(view, o); err != nil {
		// This server may be a little behind: the namespace may just have been made.
		if view, err = s.fresh(r.Context(), ""); err != nil {
			return nil, err
		}
		if err := admission.CheckNamespace(view, o); err != nil {
			return nil, err
		}
	}
	admission.KeepGitOwner(o, t.kind.Stored().New())
	admission.Default(o)
	user := authz.UserFrom(r.Context())
	admission.PrepareRequester(o, user.Name, user.Groups)
	admission.PrepareCreate(o, types.UID(uuid.NewString()), s.cfg.Now())
	named := o
	if o.GetName() == "" && o.GetGenerateName() != "" {
		named = object.Copy(o)
		named.SetName(o.GetGenerateName() + "xxxxx")
	}
	if err := admission.Invalid(named, admission.ValidateAs(t.kind, named, nil)); err != nil {
		return nil, err
	}
	for _, text := range admission.Warnings(named, nil) {
		warn(w, text)
	}
	return o, nil
}

// storeNew submits the creation of an object.
func (s *Server) storeNew(r *http.Request, o object.Object, dry bool) (written, error) {
	return s.store(r, sequencer.Op{Verb: sequencer.Create, Object: o}, dry)
}

// asStored turns an object that a client sent in another served version into the stored one. It is completed by that version's
// defaults first, which the stored version's would not be.
func asStored(o object.Object, k object.Kind) (object.Object, error) {
	if k.IsStored() {
		return o, nil
	}
	admission.Default(o)
	return admission.Convert(o, k.Stored())
}

// placeObject puts an object where its path says, and refuses a body that says otherwise.
func placeObject(o object.Object, t target) error {
	switch {
	case t.name != "" && o.GetName() == "":
		o.SetName(t.name)
	case t.name != "" && o.GetName() != t.name:
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", o.GetName(), t.name)
	}
	switch {
	case !t.kind.Namespaced:
		o.SetNamespace("")
	case o.GetNamespace() == "":
		o.SetNamespace(t.namespace)
	case o.GetNamespace() != t.namespace:
		return badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// written is the result of a write, and how its bytes may be kept.
type written struct {
	object object.Object
	how    variant
}

// store submits one write. Its ownership has been judged. An object that the entry removed at once (its last finalizer was taken away, or its owner is not
// there) is answered as it was asked for, as in Kubernetes, under the version that it replaced, if there was one.
func (s *Server) store(r *http.Request, op sequencer.Op, dry bool) (written, error) {
	if op.Object != nil {
		op.Key = object.KeyOf(op.Object)
	}
	res, err := s.cfg.Writer.Submit(r.Context(), sequencer.Request{
		User: authz.UserFrom(r.Context()).Name, Ops: []sequencer.Op{op}, DryRun: dry,
	})
	if err != nil {
		return written{}, nothingDone(err)
	}
	switch {
	case len(res.Objects) == 1 && res.Objects[0] != nil && dry:
		// What is not stored is shown as if it had been: the store keeps no difference between what is empty and what is not there.
		b, err := object.Encode(res.Objects[0])
		if err != nil {
			return written{}, err
		}
		o, err := object.Decode(b)
		return written{o, fleeting}, err
	case len(res.Objects) == 1 && res.Objects[0] != nil:
		return written{res.Objects[0], fresh}, nil
	case len(res.Objects) != 1 || op.Object == nil:
		return written{}, fmt.Errorf("write %s: %w", op.Key, errors.New("the sequencer answered with no object"))
	}
	o := object.Copy(op.Object)
	if o.GetResourceVersion() == "" {
		o.SetResourceVersion(strconv.FormatUint(res.Rev, 10))
	}
	return written{o, fleeting}, nil
}
