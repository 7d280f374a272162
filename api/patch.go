package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"reconcile/object"
)

// patch is the body of a PATCH: one of the two is set.
type patch struct {
	// change changes a document of JSON; shown is the patch in refusals of what it makes.
	change func(doc []byte) ([]byte, error)
	shown  string
	// strategic is a strategic merge of JSON.
	strategic []byte
}

// maxOperations bounds a JSON patch, as in Kubernetes.
const maxOperations = 10000

// boundCopies bounds by how much the copies of a JSON patch may let a document grow: each may double it. The library knows only a bound for
// the whole process.
var boundCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxBody })

// readPatch reads the body of a PATCH, and its unknown and duplicate fields.
func readPatch(r *http.Request) (p patch, strict []error, err error) {
	body, media, err := readBody(r)
	if err == nil {
		p, strict, err = parsePatch(body, media)
	}
	return p, strict, err
}

func parsePatch(b []byte, media string) (patch, []error, error) {
	switch types.PatchType(media) {
	case types.JSONPatchType:
		boundCopies()
		var known []operation
		strict, err := kjson.UnmarshalStrict(b, &known)
		if err != nil {
			return patch{}, nil, badRequest("error decoding patch: %v", err)
		}
		ops, err := jsonpatch.DecodePatch(b)
		if err != nil {
			return patch{}, nil, badRequest("error decoding patch: %v", err)
		}
		if len(ops) > maxOperations {
			return patch{}, nil, apierrors.NewRequestEntityTooLargeError("the JSON patch has too many operations")
		}
		return patch{shown: string(b), change: func(doc []byte) ([]byte, error) {
			out, err := ops.Apply(doc)
			if err != nil {
				return nil, statusError(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "the server rejected our request due to an error in our request: "+err.Error())
			}
			return out, nil
		}}, strict, nil
	case types.MergePatchType:
		strict, err := checkJSON(b)
		if err != nil {
			err = badRequest("error decoding patch: %v", err)
		}
		return patch{shown: string(b), change: func(doc []byte) ([]byte, error) {
			out, err := jsonpatch.MergePatch(doc, b)
			if err != nil {
				return nil, badRequest("%v", err)
			}
			return out, nil
		}}, strict, err
	case types.StrategicMergePatchType:
		strict, err := checkJSON(b)
		if err != nil {
			err = badRequest("%v", err)
		}
		return patch{strategic: b}, strict, err
	}
	return patch{}, nil, unsupportedMedia(media, string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType))
}

// onto writes doc, as the patch changes it, into an empty object; decode reads JSON into it. strict are the unknown fields. What makes no object is
// refused in words that show the patch, and never the document: that may be a secret.
func (p patch) onto(doc []byte, into runtime.Object, decode func([]byte) ([]error, error)) (strict []error, err error) {
	if p.strategic != nil {
		return mergeOnto(doc, p.strategic, into)
	}
	out, err := p.change(doc)
	if err != nil {
		return nil, err
	}
	if strict, err = decode(out); err != nil {
		return nil, spoiled(p.shown, err)
	}
	return strict, nil
}

// spoiled refuses what a patch makes of a document for its unknown fields.
func (p patch) spoiled(strict []error) error {
	shown := p.shown
	if p.strategic != nil {
		var merge map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(p.strategic, &merge); err == nil {
			shown = fmt.Sprintf("%+v", merge)
		}
	}
	return spoiled(shown, runtime.NewStrictDecodingError(strict))
}

// mergeOnto is onto for a strategic merge. It goes from fields to fields as in Kubernetes, where apiVersion and kind mean nothing.
func mergeOnto(doc, b []byte, into runtime.Object) ([]error, error) {
	var from, merge map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &from); err != nil {
		return nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(b, &merge); err != nil {
		return nil, badRequest("%v", err)
	}
	out, err := strategicpatch.StrategicMergeMapPatch(from, merge, into)
	if err != nil {
		return nil, notMerged(err)
	}
	gvk := into.GetObjectKind().GroupVersionKind()
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(out, into, true)
	into.GetObjectKind().SetGroupVersionKind(gvk)
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		return unknown.Errors(), nil
	}
	if err != nil {
		return nil, spoiled(fmt.Sprintf("%+v", merge), err)
	}
	return nil, nil
}

// operation are the fields that an operation of a JSON patch may have.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from"`
	Value json.RawMessage `json:"value"`
}

// checkJSON refuses a patch that is no JSON object and returns the duplicate fields of one that is.
func checkJSON(b []byte) ([]error, error) {
	var m map[string]any
	strict, err := kjson.UnmarshalStrict(b, &m, kjson.DisallowDuplicateFields)
	if err != nil {
		return nil, err
	}
	return strict, nil
}

// notMerged is Kubernetes' answer to a strategic merge that fails.
func notMerged(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return badRequest("%v", err)
	}
	return statusError(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, err.Error())
}

// isApply tells whether a PATCH is a server-side apply.
func isApply(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == string(types.ApplyYAMLPatchType)
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request, t target) error {
	if isApply(r) {
		return s.apply(w, r, t)
	}
	p, strict, err := readPatch(r)
	if err != nil {
		return err
	}
	told := false
	return s.modify(w, r, t, func(old object.Object) (object.Object, error) {
		doc, err := s.enc.bytes(old, t.kind, encodeJSON, stored)
		if err != nil {
			return nil, err
		}
		o := t.kind.New()
		faults, err := p.onto(doc, o, func(out []byte) ([]error, error) { return decodeJSON(t.kind, out, o) })
		if err != nil {
			return nil, err
		}
		if !told {
			faults = append(slices.Clip(strict), faults...)
			if err := judgeStrict(w, r, t.kind, faults); err != nil {
				return nil, p.spoiled(faults)
			}
			told = true
		}
		switch {
		case o.GetName() == "":
			return nil, nameless(t)
		case o.GetName() != old.GetName():
			return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", o.GetName(), t.name)
		case o.GetNamespace() != old.GetNamespace():
			return nil, badRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		if o, err = asStored(o, t.kind); err != nil {
			return nil, err
		}
		if err := namesVersion(t, o); err != nil {
			return nil, err
		}
		return unconditional(o, old), nil
	})
}

// spoiled is Kubernetes' sentence about a patch that makes no object of the kind of what it changes. shown is the patch.
func spoiled(shown string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, err.Error())})
}

// unconditional takes the resourceVersion away from a patched object if it is the stored one: a patch that names no version, or
// the one there is, may be computed anew when somebody else is faster; a patch that names another is refused by sameObject.
func unconditional(o, old object.Object) object.Object {
	if o.GetResourceVersion() == old.GetResourceVersion() {
		o.SetResourceVersion("")
	}
	return o
}
