package api

import (
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	set    func(object.Object) fields.Set
}

// matches tells whether an object is of the selection.
func (s selection) matches(o object.Object) bool {
	if s.labels != nil && !s.labels.Empty() && !s.labels.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	return s.fields == nil || s.fields.Empty() || s.fields.Matches(s.set(o))
}

// everything tells that no object is left out.
func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

func parseListOptions(t target) (listOptions, error) {
	q := t.query
	var o listOptions
	var err error
	if o.LabelSelector, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return o, badRequest("unable to parse the label selector: %v", err)
	}
	if o.FieldSelector, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return o, badRequest("unable to parse the field selector: %v", err)
	}
	if o.sel, err = newSelection(t.kind, o.LabelSelector, o.FieldSelector); err != nil {
		return o, err
	}
	o.Watch = isTrue(q.Get("watch"))
	o.AllowWatchBookmarks = isTrue(q.Get("allowWatchBookmarks"))
	o.ResourceVersion = q.Get("resourceVersion")
	o.ResourceVersionMatch = metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	o.Continue = q.Get("continue")
	if v := q.Get("sendInitialEvents"); v != "" {
		b := isTrue(v)
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
	if faults := validation.ValidateListOptions(&o.ListOptions, true); len(faults) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", faults)
	}
	if _, err := parseRev(o.ResourceVersion); err != nil {
		return o, err
	}
	return o, nil
}

func newSelection(k object.Kind, l labels.Selector, f fields.Selector) (selection, error) {
	set, known := fieldsOf(k)
	for _, req := range f.Requirements() {
		if !known[req.Field] {
			return selection{}, badRequest("field label not supported: %s", req.Field)
		}
	}
	return selection{labels: l, fields: f, set: set}, nil
}

func number(q url.Values, name string) (int64, error) {
	v := q.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("invalid %s %q: it must be a whole number, 0 or more", name, v)
	}
	return n, nil
}

// parseRev reads a resource version; the empty one is 0.
func parseRev(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, badRequest("invalid resource version %q: it must be one that this API gave out", s)
	}
	return n, nil
}

func formatRev(n uint64) string { return strconv.FormatUint(n, 10) }
