package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/object"
)

// maxBody bounds a request's body, as in Kubernetes.
const maxBody = 3 << 20

// readBody reads the whole body and its media type.
func readBody(r *http.Request) ([]byte, string, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, "", statusError(http.StatusRequestTimeout, metav1.StatusReasonTimeout, "the request's body did not come in time")
	case err != nil:
		return nil, "", badRequest("read the request's body: %v", err)
	}
	if len(b) > maxBody {
		return nil, "", apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	media := r.Header.Get("Content-Type")
	if media == "" {
		return b, mediaJSON, nil
	}
	m, _, err := mime.ParseMediaType(media)
	if err != nil {
		return nil, "", unsupportedMedia(media, mediaJSON, mediaYAML, mediaProto)
	}
	return b, m, nil
}

// unwrap reads an envelope of protobuf: the kind it names, and the message.
func unwrap(b []byte) (schema.GroupVersionKind, []byte, error) {
	body, ok := bytes.CutPrefix(b, protoMagic)
	if !ok {
		return schema.GroupVersionKind{}, nil, fmt.Errorf("provided data does not appear to be a protobuf message, expected prefix %v", protoMagic)
	}
	var u runtime.Unknown
	if err := u.Unmarshal(body); err != nil {
		return schema.GroupVersionKind{}, nil, fmt.Errorf("read the protobuf envelope: %w", err)
	}
	return schema.FromAPIVersionAndKind(u.APIVersion, u.Kind), u.Raw, nil
}

// decodeObject reads an object of a kind. The object is new, not defaulted. strict are the faults of field validation.
func decodeObject(k object.Kind, b []byte, media string) (o object.Object, strict []error, err error) {
	o = k.New()
	switch media {
	case mediaProto:
		gvk, raw, err := unwrap(b)
		if err != nil {
			return nil, nil, unrecognized(k, b, err)
		}
		m, ok := o.(interface{ Unmarshal([]byte) error })
		if !ok {
			return nil, nil, unsupportedMedia(media, mediaJSON, mediaYAML)
		}
		if err := sameKind(k, gvk); err != nil {
			return nil, nil, err
		}
		if err := m.Unmarshal(raw); err != nil {
			return nil, nil, badRequest("%s in version %q cannot be handled as a %s: %v", k.GVK.Kind, k.GVK.GroupVersion(), k.GVK.Kind, err)
		}
	case mediaYAML:
		var twice []error
		body := b
		if b, twice, err = yamlToJSON(b); err != nil {
			return nil, nil, unrecognized(k, body, err)
		}
		if strict, err = decodeJSON(k, b, o); err != nil {
			return nil, nil, err
		}
		strict = append(twice, strict...)
	case mediaJSON:
		if strict, err = decodeJSON(k, b, o); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, unsupportedMedia(media, mediaJSON, mediaYAML, mediaProto)
	}
	o.GetObjectKind().SetGroupVersionKind(k.GVK)
	return o, strict, nil
}

func decodeJSON(k object.Kind, b []byte, into object.Object) ([]error, error) {
	strict, err := admission.DecodeInto(b, into)
	if err != nil && !json.Valid(b) {
		return nil, unrecognized(k, b, fmt.Errorf("couldn't get version/kind; json parse error: %w", err))
	}
	if err != nil {
		return nil, cannotHandle(k, err)
	}
	return strict, sameKind(k, into.GetObjectKind().GroupVersionKind())
}

// unrecognized is Kubernetes' sentence about a body that is not of the form that its media type says.
func unrecognized(k object.Kind, b []byte, err error) error {
	const most = 30
	form, end, part := "%x", "", b
	if len(b) > most {
		part, end = b[:most], " ..."
	}
	if bytes.HasPrefix(b, []byte("{")) {
		form = "%s"
	}
	shown := fmt.Sprintf(form, part) + end
	if len(b) == 0 {
		shown = "<empty>"
	}
	return badRequest("the object provided is unrecognized (must be of type %s): %v (%s)", k.GVK.Kind, err, shown)
}

// cannotHandle is Kubernetes' sentence about a body that does not decode.
func cannotHandle(k object.Kind, err error) error {
	return badRequest("%s in version %q cannot be handled as a %s: %v", k.GVK.Kind, k.GVK.Version, k.GVK.Kind, err)
}

// yamlToJSON converts YAML; strict are the keys that stand twice.
func yamlToJSON(b []byte) (j []byte, strict []error, err error) {
	if j, err = yaml.YAMLToJSONStrict(b); err == nil {
		return j, nil, nil
	}
	twice := err
	if j, err = yaml.YAMLToJSON(b); err != nil {
		return nil, nil, err
	}
	return j, []error{twice}, nil
}

// sameKind refuses a body that says it is of another kind than its path.
func sameKind(k object.Kind, got schema.GroupVersionKind) error {
	if got.Kind != "" && got.Kind != k.GVK.Kind {
		return badRequest("the kind in the data (%s) does not match the expected kind (%s)", got.Kind, k.GVK.Kind)
	}
	if v := got.GroupVersion().String(); v != "" && got.GroupVersion() != k.GVK.GroupVersion() {
		return badRequest("the API version in the data (%s) does not match the expected API version (%s)", v, k.GVK.GroupVersion())
	}
	return nil
}

// judgeStrict does what the fieldValidation parameter says with unknown and duplicate fields: refuse (Strict), tell (Warn, the
// default) or nothing (Ignore).
func judgeStrict(w http.ResponseWriter, r *http.Request, k object.Kind, strict []error) error {
	mode := r.URL.Query().Get("fieldValidation")
	switch mode {
	case "", metav1.FieldValidationWarn:
		for _, e := range strict {
			// Faults of YAML come as one error of several lines.
			text, several := strings.CutPrefix(e.Error(), "yaml: unmarshal errors:\n")
			if !several {
				warn(w, text)
				continue
			}
			for line := range strings.Lines(text) {
				warn(w, strings.TrimSpace(line))
			}
		}
	case metav1.FieldValidationStrict:
		if len(strict) > 0 {
			return cannotHandle(k, runtime.NewStrictDecodingError(strict))
		}
	case metav1.FieldValidationIgnore:
	}
	return nil // checkOptions has refused other words
}

// warn adds a warning that kubectl prints (RFC 7234, section 5.5, in the form that Kubernetes uses).
func warn(w http.ResponseWriter, text string) {
	quoted := make([]byte, 0, len(text)+2)
	for _, c := range []byte(text) {
		if c == '"' || c == '\\' {
			quoted = append(quoted, '\\')
		}
		if c >= ' ' {
			quoted = append(quoted, c)
		}
	}
	line := `299 - "` + string(quoted) + `"`
	if !slices.Contains(w.Header()["Warning"], line) { // a write that is computed anew warns of the same
		w.Header().Add("Warning", line)
	}
}

// dryRun reads the dryRun parameter of a request or of delete options.
func dryRun(values []string) (bool, error) {
	for _, v := range values {
		if v != metav1.DryRunAll {
			return false, badRequest("dryRun: Unsupported value: %q: supported values: \"All\"", v)
		}
	}
	return len(values) > 0, nil
}

// decodePlain reads a body of no stored kind (DeleteOptions, Scale, Binding, Eviction) into a message. An empty body leaves it empty. A body that
// says it is of another kind was sent by mistake.
func decodePlain(b []byte, media string, into runtime.Object) error {
	if len(b) == 0 {
		return nil
	}
	want := reflect.TypeOf(into).Elem().Name()
	other := func(got string) error {
		if got == "" || got == want {
			return nil
		}
		return badRequest("the kind in the data (%s) does not match the expected kind (%s)", got, want)
	}
	switch media {
	case mediaProto:
		gvk, raw, err := unwrap(b)
		if err != nil {
			return badRequest("%v", err)
		}
		if err := other(gvk.Kind); err != nil {
			return err
		}
		m, ok := into.(interface{ Unmarshal([]byte) error })
		if !ok {
			return unsupportedMedia(media, mediaJSON, mediaYAML)
		}
		if err := m.Unmarshal(raw); err != nil {
			return badRequest("read the protobuf body as %T: %v", into, err)
		}
		return nil
	case mediaJSON:
		var raw json.RawMessage
		if err := json.Unmarshal(b, &raw); err != nil {
			return badRequest("couldn't get version/kind; json parse error: %v", err)
		}
		fallthrough
	case mediaYAML:
		if err := yaml.Unmarshal(b, into); err != nil {
			return badRequest("read the body as %T: %v", into, err)
		}
		return other(into.GetObjectKind().GroupVersionKind().Kind)
	}
	return unsupportedMedia(media, mediaJSON, mediaYAML, mediaProto)
}

// errBusy is why a write that set no condition gave up.
var errBusy = errors.New("the object is being changed by others: try again")

// errAppliedGone is why an apply that names a UID makes no object.
var errAppliedGone = errors.New("the object that was applied to is not there any more; leave uid out to make it")
