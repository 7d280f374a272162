package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/authz"
	"reconcile/object"
)

// fieldManagers keep metadata.managedFields, and merge what is applied, with Kubernetes' own package. The schema, which takes a tenth
// of a second to read, is read when the first write needs it. It is safe for use by several goroutines.
type fieldManagers struct {
	once  sync.Once
	types managedfields.TypeConverter
	mu    sync.Mutex
	made  map[managerKey]*managedfields.FieldManager
	// created is of what is made: the same fields for the same shape.
	created created
}

type managerKey struct {
	gvk         schema.GroupVersionKind
	subresource string
}

// of returns the manager of a version of a kind, nil for kinds that have no schema.
func (m *fieldManagers) of(k object.Kind, subresource string) (*managedfields.FieldManager, error) {
	if !admission.Knows(k) {
		return nil, nil
	}
	m.once.Do(func() {
		m.types = &typeConverter{TypeConverter: applyconfigurations.NewTypeConverter(object.Scheme()), known: map[schema.GroupVersionKind]schemaOf{}}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	key := managerKey{k.GVK, subresource}
	if f, ok := m.made[key]; ok {
		return f, nil
	}
	f, err := managedfields.NewDefaultFieldManager(m.types, versions{}, versions{}, object.Scheme(), k.GVK, k.Stored().GVK.GroupVersion(), subresource, resetFields(k, subresource))
	if err != nil {
		return nil, fmt.Errorf("make the field manager of %s: %w", k, err)
	}
	if m.made == nil {
		m.made = map[managerKey]*managedfields.FieldManager{}
	}
	m.made[key] = f
	return f, nil
}

// resetFields are what a write of the whole object, or of a subresource, cannot set: nobody comes to own them by it.
func resetFields(k object.Kind, subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	paths := admission.Reset(k, subresource)
	if len(paths) == 0 {
		return nil
	}
	set := fieldpath.NewSet()
	for _, p := range paths {
		var names []any
		for _, name := range strings.Split(p, ".") {
			names = append(names, name)
		}
		set.Insert(fieldpath.MakePathOrDie(names...))
	}
	filter := fieldpath.NewExcludeSetFilter(set)
	out := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, v := range object.Served() {
		if v.Resource == k.Resource {
			out[fieldpath.APIVersion(v.GVK.GroupVersion().String())] = filter
		}
	}
	return out
}

// versions converts and completes objects for the field managers.
type versions struct{}

// Default implements runtime.ObjectDefaulter.
func (versions) Default(in runtime.Object) {
	if o, ok := in.(object.Object); ok {
		if _, raw := in.(*unstructured.Unstructured); !raw {
			admission.Default(o)
		}
	}
}

// ConvertToVersion implements runtime.ObjectConvertor. The result is new, or shares everything with in: field managers change no object that they
// compare.
func (versions) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	o, kind, err := typedObjectOf(in)
	if err != nil {
		return nil, err
	}
	if to, ok := gv.KindForGroupVersionKinds([]schema.GroupVersionKind{kind.GVK}); ok && to == kind.GVK {
		return o, nil
	}
	var offered []schema.GroupVersionKind
	for _, v := range object.Served() {
		if v.Resource == kind.Resource {
			offered = append(offered, v.GVK)
		}
	}
	to, ok := gv.KindForGroupVersionKinds(offered)
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("reconcile", nil, gv)
	}
	target, ok := object.KindOf(to)
	if !ok { // a version of the group that is not served: managedFields may come from another cluster
		return nil, runtime.NewNotRegisteredErrForTarget("reconcile", nil, gv)
	}
	return admission.Convert(object.Copy(o), target)
}

// typedObjectOf is an object as its Go type, with its apiVersion and kind set. It shares everything with one that is a Go value.
func typedObjectOf(in runtime.Object) (object.Object, object.Kind, error) {
	raw, isRaw := in.(*unstructured.Unstructured)
	if !isRaw {
		o, ok := in.(object.Object)
		if !ok {
			return nil, object.Kind{}, fmt.Errorf("convert %T: %w", in, object.ErrUnknownKind)
		}
		k, err := object.KindOfObject(o)
		if err != nil {
			return nil, k, err
		}
		if o.GetObjectKind().GroupVersionKind() != k.GVK {
			o = flat(o)
			o.GetObjectKind().SetGroupVersionKind(k.GVK)
		}
		return o, k, nil
	}
	gvk := raw.GroupVersionKind()
	k, ok := object.KindOf(gvk)
	if !ok {
		return nil, k, fmt.Errorf("convert %s: %w", gvk, object.ErrUnknownKind)
	}
	o := k.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, o); err != nil {
		return nil, k, cannotHandle(k, err)
	}
	return o, k, nil
}

// flat is a copy of an object whose parts are shared: its own fields may be set, what they point to not.
func flat(o object.Object) object.Object {
	v := reflect.New(reflect.TypeOf(o).Elem())
	v.Elem().Set(reflect.ValueOf(o).Elem())
	return v.Interface().(object.Object)
}

// Convert implements runtime.ObjectConvertor; field managers do not call it.
func (versions) Convert(_, _, _ any) error {
	return fmt.Errorf("convert between Go types: %w", object.ErrUnknownKind)
}

// ConvertFieldLabel implements runtime.ObjectConvertor; field managers do not call it.
func (versions) ConvertFieldLabel(schema.GroupVersionKind, string, string) (string, string, error) {
	return "", "", fmt.Errorf("convert a field label: %w", object.ErrUnknownKind)
}

// managerName is who a write's fields belong to: the fieldManager parameter, or the program that the User-Agent names.
func managerName(r *http.Request, t target) (string, error) {
	name := t.query.Get("fieldManager") // checkOptions has judged it
	if strings.HasPrefix(name, gitManagers) {
		return "", badRequest("fieldManager %q: names that begin with %q belong to sources of git", name, gitManagers)
	}
	if name == "" {
		name = agentName(r.UserAgent())
	}
	return name, nil
}

// gitManagers is what the field managers of git's sources begin with (object.GitManager).
const gitManagers = "git:"

func agentName(agent string) string {
	agent, _, _ = strings.Cut(agent, "/")
	var b strings.Builder
	for _, c := range agent {
		if !unicode.IsPrint(c) {
			continue
		}
		if b.Len()+utf8.RuneLen(c) > validation.FieldManagerMaxLength {
			break
		}
		b.WriteRune(c)
	}
	name := b.String()
	for strings.HasPrefix(name, gitManagers) { // nobody is a source of git by its name
		name = strings.TrimPrefix(name, gitManagers)
	}
	return name
}

// manage notes who set which fields: o is what will be stored in place of old (an empty object for a creation), with the managedFields
// that the client sent. Agents report many statuses and share their objects with nobody, so nothing is noted for them.
func (s *Server) manage(r *http.Request, t target, o, old object.Object) (object.Object, error) {
	name, err := managerName(r, t)
	if err != nil {
		return nil, err
	}
	f, err := s.managers.of(t.kind, cmp.Or(t.via, t.subresource))
	if err != nil {
		return nil, err
	}
	if f == nil || authz.UserFrom(r.Context()).Node() != "" {
		o.SetManagedFields(old.GetManagedFields())
		return o, nil
	}
	key, known := "", false
	if old.GetUID() == "" && o.GetManagedFields() == nil && t.kind.IsStored() && t.subresource == "" && t.via == "" {
		if key, known = shapeKey(t.kind, name, o); known {
			if e, ok := s.managers.created.entry(key, time.Now()); ok {
				o.SetManagedFields([]metav1.ManagedFieldsEntry{e})
				return o, nil
			}
		}
	}
	done, ok := f.UpdateNoErrors(old, o, name).(object.Object)
	if !ok {
		return nil, fmt.Errorf("note the fields of %s: the field manager gave no object", object.KeyOf(o))
	}
	if known {
		s.managers.created.keep(key, done)
	}
	if t.via != "" {
		timeless(done, t.via)
	}
	return done, nil
}

// timeless takes the times from who changed an object by another that stands for it (a Scale), as Kubernetes does.
func timeless(o object.Object, via string) {
	entries := slices.Clone(o.GetManagedFields())
	for i := range entries {
		if entries[i].Subresource == via {
			entries[i].Time = nil
		}
	}
	o.SetManagedFields(entries)
}

// keepTimes gives o old's managedFields if they differ in times only, so that a write that changes nothing is none.
func keepTimes(o, old object.Object) {
	a, b := o.GetManagedFields(), old.GetManagedFields()
	if len(a) != len(b) {
		return
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Manager != y.Manager || x.Operation != y.Operation || x.APIVersion != y.APIVersion || x.Subresource != y.Subresource || !sameFields(x.FieldsV1, y.FieldsV1) {
			return
		}
	}
	o.SetManagedFields(b)
}

func sameFields(a, b *metav1.FieldsV1) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// apply serves server-side apply: the body is what the manager wants, and the object is made if there is none.
func (s *Server) apply(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	if t.subresource != "" { // makes no object: that there is none is told before what is wrong with the body
		if _, err := s.live(r.Context(), t, ""); err != nil {
			return err
		}
	}
	in, err := s.readApply(w, r, t)
	if err != nil {
		return err
	}
	done, code, err := s.applyUntilDone(w, r, t, in)
	if err != nil {
		return err
	}
	s.sendObject(w, r, code, t.kind, a, done.object, done.how)
	return nil
}

// applyUntilDone begins again when somebody else was faster and the document names no version.
func (s *Server) applyUntilDone(w http.ResponseWriter, r *http.Request, t target, in applied) (written, int, error) {
	for try := 1; ; try++ {
		o, code, err := s.applyOnce(w, r, t, in)
		again := apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) && !isManagerConflict(err) && in.doc.GetResourceVersion() == ""
		if err == nil || !again || try == conflictTries {
			return o, code, err
		}
	}
}

// applyScale serves server-side apply of a Scale: its replicas are applied to the object that is scaled.
func (s *Server) applyScale(w http.ResponseWriter, r *http.Request, t target) error {
	whole := t
	whole.subresource, whole.via = "", "scale"
	if _, err := s.live(r.Context(), whole, ""); err != nil { // told before what is wrong with the body
		return err
	}
	var sc autoscalingv1.Scale
	b, _, err := readBody(r)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(b, &sc); err != nil {
		return badRequest("error decoding YAML: %v", err)
	}
	if sc.Kind != "Scale" || sc.APIVersion != autoscalingv1.SchemeGroupVersion.String() {
		return badRequest("the kind in the data (%s of %s) does not match the expected kind (Scale of autoscaling/v1)", sc.Kind, sc.APIVersion)
	}
	in := applied{}
	if err := in.options(r, whole); err != nil {
		return err
	}
	in.doc = &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(sc.Spec.Replicas)}}}
	in.doc.SetGroupVersionKind(t.kind.GVK)
	in.doc.SetName(cmp.Or(sc.Name, t.name))
	in.doc.SetResourceVersion(sc.ResourceVersion)
	if err := placeObject(in.doc, whole); err != nil {
		return err
	}
	done, _, err := s.applyUntilDone(w, r, whole, in)
	if err != nil {
		return ofScale(err, t.kind.GVK.GroupVersion())
	}
	out, err := scaleOf(done.object)
	if err != nil {
		return err
	}
	s.sendPlain(w, r, http.StatusOK, out)
	return nil
}

// ofScale words a conflict between managers in the version of a Scale: that is what the client has applied, whatever version the others wrote in.
func ofScale(err error, version schema.GroupVersion) error {
	var e *apierrors.StatusError
	if !isManagerConflict(err) || !errors.As(err, &e) {
		return err
	}
	words := strings.NewReplacer(" using "+version.String(), " using "+autoscalingv1.SchemeGroupVersion.String())
	out := *e
	out.ErrStatus = *e.ErrStatus.DeepCopy()
	out.ErrStatus.Message = words.Replace(out.ErrStatus.Message)
	for i := range out.ErrStatus.Details.Causes {
		c := &out.ErrStatus.Details.Causes[i]
		c.Message = words.Replace(c.Message)
	}
	return &out
}

// applied is the body and the parameters of an apply.
type applied struct {
	doc     *unstructured.Unstructured
	manager string
	force   bool
	dry     bool
}

// options reads the parameters.
func (in *applied) options(r *http.Request, t target) error {
	in.force = isSet(t.query, "force")
	var err error
	if in.manager, err = managerName(r, t); err != nil {
		return err
	}
	in.dry, err = dryRun(t.query["dryRun"])
	return err
}

func (s *Server) readApply(w http.ResponseWriter, r *http.Request, t target) (applied, error) {
	var in applied
	b, _, err := readBody(r)
	if err != nil {
		return in, err
	}
	if err := in.options(r, t); err != nil {
		return in, err
	}
	// What is JSON is not read as YAML, which takes several times as long, unless there is something to tell in the words of YAML.
	j, twice, unknown, err := readDocument(t.kind, b, isJSON(b))
	if len(unknown) > 0 {
		j, twice, unknown, err = readDocument(t.kind, b, false)
	}
	if err != nil {
		return in, err
	}
	strictly := r.URL.Query().Get("fieldValidation") == metav1.FieldValidationStrict
	switch {
	case strictly && twice != nil:
		return in, badRequest("error strict decoding YAML: error converting YAML to JSON: %v", twice)
	case strictly:
		err = judgeStrict(w, r, t.kind, unknown)
	case twice != nil: // a field that the kind does not have is refused below, whoever asks how
		err = judgeStrict(w, r, t.kind, []error{twice})
	}
	if err != nil {
		return in, err
	}
	in.doc = &unstructured.Unstructured{}
	if err := in.doc.UnmarshalJSON(j); err != nil {
		return in, badRequest("error decoding YAML: %v", err)
	}
	named := in.doc.GetNamespace() != ""
	if err := placeObject(in.doc, t); err != nil || named {
		return in, err
	}
	in.doc.SetNamespace("") // the stored object has it, and errors do not name it
	return in, nil
}

// isJSON tells whether an applied document is a JSON object.
func isJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{' && json.Valid(b)
}

// readDocument reads an applied document of a kind as JSON. twice are the keys that stand twice, all in one error; unknown are the fields that the
// kind does not have, and in a document that is read as plain JSON also those that stand twice.
func readDocument(k object.Kind, b []byte, plain bool) (j []byte, twice error, unknown []error, err error) {
	j = b
	if !plain {
		var strict []error
		if j, strict, err = yamlToJSON(b); err != nil {
			return nil, nil, nil, badRequest("error decoding YAML: error converting YAML to JSON: %v", err)
		}
		twice = errors.Join(strict...)
	}
	var (
		whole map[string]any
		named metav1.TypeMeta
	)
	// The fields are named exactly: what is applied is read again without the kind's Go type.
	if err = kjson.UnmarshalCaseSensitivePreserveInts(j, &named); err != nil {
		if other := json.Unmarshal(j, &whole); other != nil {
			err = other
		}
		return nil, nil, nil, badRequest("error decoding YAML: error unmarshaling JSON: while decoding JSON: %v", err)
	}
	if named.GroupVersionKind() != k.GVK {
		return nil, nil, nil, badRequest("invalid object type: %v", named.GroupVersionKind())
	}
	unknown, err = decodeJSON(k, j, k.New())
	return j, twice, unknown, err
}

// applyOnce merges the document into what is stored now and submits the result. The code is 201 for an object that was made.
func (s *Server) applyOnce(w http.ResponseWriter, r *http.Request, t target, in applied) (written, int, error) {
	f, err := s.managers.of(t.kind, cmp.Or(t.via, t.subresource))
	if err != nil {
		return written{}, 0, err
	}
	if f == nil {
		return written{}, 0, unsupportedMedia(string(types.ApplyYAMLPatchType), string(types.JSONPatchType), string(types.MergePatchType))
	}
	old, err := s.live(r.Context(), t, "")
	made := apierrors.IsNotFound(err) && t.subresource == "" && t.via == ""
	if err != nil && !made {
		return written{}, 0, err
	}
	if made {
		if uid := in.doc.GetUID(); uid != "" {
			return written{}, 0, apierrors.NewConflict(t.groupResource(), t.name, errAppliedGone)
		}
		in.doc.SetResourceVersion("") // as in Kubernetes, which looks at it only where there is something to compare
		old = t.kind.Stored().New()
	}
	merged, err := f.Apply(flat(old), in.doc.DeepCopy(), in.manager, in.force)
	if err != nil {
		return written{}, 0, err
	}
	if merged == nil {
		// Nothing is changed by it, not even who owns what.
		return written{old, stored}, http.StatusOK, nil
	}
	o, ok := merged.(object.Object)
	if !ok {
		return written{}, 0, fmt.Errorf("apply %s: the field manager gave no object", t.key())
	}
	if o, err = admission.Convert(o, t.kind.Stored()); err != nil {
		return written{}, 0, err
	}
	o.GetObjectKind().SetGroupVersionKind(t.kind.Stored().GVK)
	if t.via != "" {
		timeless(o, t.via)
	}
	if !made {
		done, err := s.replace(r, t, edit{object: o, managed: true, dry: in.dry, w: w}, old)
		return done, http.StatusOK, err
	}
	if err := placeObject(o, t); err != nil {
		return written{}, 0, err
	}
	if o, err = s.complete(w, r, t, o); err != nil {
		return written{}, 0, err
	}
	if err := s.authorizeCreate(r, t, o); err != nil {
		return written{}, 0, err
	}
	done, err := s.storeNew(r, o, in.dry)
	return done, http.StatusCreated, err
}

// isManagerConflict tells a conflict between field managers from one between versions.
func isManagerConflict(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)
}
