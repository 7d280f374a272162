package admission

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"reconcile/object"
)

// DecodeJSON reads a JSON document of a known kind. err is what makes it unreadable (syntax, wrong type, unknown kind: then
// errors.Is(err, object.ErrUnknownKind)); strict are the faults that Kubernetes' field validation "Strict" refuses and "Warn"
// tells: unknown and duplicate fields, in its words (`unknown field "spec.foo"`). The object is new and the caller's.
func DecodeJSON(data []byte) (o object.Object, strict []error, err error) {
	var t metav1.TypeMeta
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, nil, fmt.Errorf("read apiVersion and kind: %w", err)
	}
	gvk := schema.FromAPIVersionAndKind(t.APIVersion, t.Kind)
	k, ok := object.KindOf(gvk)
	if !ok {
		return nil, nil, fmt.Errorf("no kind %q is registered for version %q: %w", t.Kind, t.APIVersion, object.ErrUnknownKind)
	}
	o = k.New()
	strict, err = DecodeInto(data, o)
	return o, strict, err
}

// DecodeInto is DecodeJSON for a caller that knows the kind: into is filled.
func DecodeInto(data []byte, into object.Object) (strict []error, err error) {
	return kjson.UnmarshalStrict(data, into, kjson.DisallowUnknownFields, kjson.DisallowDuplicateFields)
}
