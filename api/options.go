package api

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	operators "k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// listOptions are the parameters of list, watch and deletecollection, parsed and judged.
type listOptions struct {
	internalversion.ListOptions
	sel selection
}

// selection tells which objects of a resource are meant.
type selection struct {
	labels labels.Selector
	fields fields.Selector
	// own are the requirements of fields that every object has, rest the others, for which set reads what a kind can be selected by.
	own  []fields.Requirement
	rest fields.Selector
	set  func(object.Object) fields.Set
}

// matches tells whether an object is of the selection.
func (s selection) matches(o object.Object) bool {
	if s.labels != nil && !s.labels.Empty() && !s.labels.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	for i := range s.own {
		have := o.GetName()
		if s.own[i].Field == "metadata.namespace" {
			have = o.GetNamespace()
		}
		if (have == s.own[i].Value) == (s.own[i].Operator == operators.NotEquals) {
			return false
		}
	}
	return s.rest == nil || s.rest.Matches(s.set(o))
}

// everything tells that no object is left out.
func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

func parseListOptions(t target) (listOptions, error) {
	q := t.query
	var o listOptions
	var err error
	if o.LabelSelector, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return o, badRequest("%v", err)
	}
	if o.FieldSelector, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return o, badRequest("%v", err)
	}
	if o.sel, err = newSelection(t.kind, o.LabelSelector, o.FieldSelector); err != nil {
		return o, err
	}
	o.Watch = isSet(q, "watch")
	o.AllowWatchBookmarks = isSet(q, "allowWatchBookmarks")
	o.ResourceVersion = q.Get("resourceVersion")
	o.ResourceVersionMatch = metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	o.Continue = q.Get("continue")
	if q.Has("sendInitialEvents") {
		b := isSet(q, "sendInitialEvents")
		o.SendInitialEvents = &b
	}
	if o.Limit, err = number(q, "limit"); err != nil {
		return o, err
	}
	if q.Get("timeoutSeconds") != "" {
		n, err := number(q, "timeoutSeconds")
		if err != nil {
			return o, err
		}
		o.TimeoutSeconds = &n
	}
	asked := o.ListOptions
	if o.Watch {
		// Kubernetes judges what it makes of an old client's watch. Ours serves it as it is.
		internalversion.SetListOptionsDefaults(&asked, true)
	}
	if faults := validation.ValidateListOptions(&asked, true); len(faults) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", faults)
	}
	if o.ResourceVersion == "0" && o.Continue == "" {
		o.Limit = 0 // any state will do, which is the one at hand: Kubernetes gives the whole of it, and informers ask so
	}
	if o.Continue != "" {
		return o, nil // the token is judged first, and goes with no version
	}
	_, err = parseRev(o.ResourceVersion)
	return o, err
}

func newSelection(k object.Kind, l labels.Selector, f fields.Selector) (selection, error) {
	s := selection{labels: l, fields: f}
	var known map[string]bool
	s.set, known = fieldsOf(k)
	var rest []fields.Selector
	for _, req := range f.Requirements() {
		switch {
		case !known[req.Field]:
			return selection{}, unknownField(req.Field, known)
		case req.Field == "metadata.name" || req.Field == "metadata.namespace":
			s.own = append(s.own, req)
		case req.Operator == operators.NotEquals:
			rest = append(rest, fields.OneTermNotEqualSelector(req.Field, req.Value))
		default:
			rest = append(rest, fields.OneTermEqualSelector(req.Field, req.Value))
		}
	}
	if len(rest) > 0 {
		s.rest = fields.AndSelectors(rest...)
	}
	return s, nil
}

func number(q url.Values, name string) (int64, error) {
	v := q.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, badRequest("%v", err)
	}
	return max(0, n), nil // less than none is none, as in Kubernetes
}

// checkOptions judges the parameters of a creation, an update or a patch.
func checkOptions(r *http.Request, t target) error {
	q := t.query
	dry, manager, check := q["dryRun"], q.Get("fieldManager"), q.Get("fieldValidation")
	var faults field.ErrorList
	var kind string
	switch r.Method {
	case http.MethodPost:
		kind, faults = "CreateOptions", metav1validation.ValidateCreateOptions(&metav1.CreateOptions{DryRun: dry, FieldManager: manager, FieldValidation: check})
	case http.MethodPut:
		kind, faults = "UpdateOptions", metav1validation.ValidateUpdateOptions(&metav1.UpdateOptions{DryRun: dry, FieldManager: manager, FieldValidation: check})
	case http.MethodPatch:
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || !isPatchType(media) {
			return nil //nolint:nilerr // readPatch refuses it
		}
		o := &metav1.PatchOptions{DryRun: dry, FieldManager: manager, FieldValidation: check}
		if q.Has("force") {
			force := isSet(q, "force")
			o.Force = &force
		}
		kind, faults = "PatchOptions", metav1validation.ValidatePatchOptions(o, types.PatchType(media))
	}
	if len(faults) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", faults)
	}
	return nil
}

func isPatchType(media string) bool {
	switch types.PatchType(media) {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
		return true
	}
	return false
}

// longestTimeout bounds what the parameter timeout may ask for, as in Kubernetes.
const longestTimeout = time.Minute

// allotted bounds a request by its parameter timeout.
func allotted(r *http.Request, t target) (*http.Request, context.CancelFunc, error) {
	text := t.query.Get("timeout")
	if text == "" {
		return r, func() {}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, nil, badRequest("invalid timeout specified in the request URL - %v", err)
	}
	if d <= 0 || d > longestTimeout {
		d = longestTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return r.WithContext(ctx), cancel, nil
}

// isSet reads a parameter that is true or false as Kubernetes does: whatever is there and is not said to be false is true.
func isSet(q url.Values, name string) bool {
	v, ok := q[name]
	return ok && len(v) > 0 && v[0] != "0" && !strings.EqualFold(v[0], "false")
}

// unknownField refuses a field that a kind cannot be selected by: one that can be selected by more than every kind has words of its own for it.
func unknownField(field string, known map[string]bool) error {
	if len(known) > 2 {
		return badRequest("field label not supported: %s", field)
	}
	return badRequest("%q is not a known field selector: only %q, %q", field, "metadata.name", "metadata.namespace")
}

// parseRev reads a resource version; the empty one is 0.
func parseRev(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, badRequest("invalid resource version: resourceVersion: Invalid value: %q: %v", s, err)
	}
	return n, nil
}

func formatRev(n uint64) string { return strconv.FormatUint(n, 10) }
