package admission

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// Owner is the source of git that an object belongs to, and where in it the object stands.
type Owner struct {
	Source, Commit string
	// File is FILE:LINE of the object's document.
	File string
}

// GitOwner returns the source that owns an object; false for an object that was not made or adopted by one.
func GitOwner(o object.Object) (Owner, bool) {
	a := o.GetAnnotations()
	source, ok := a[object.AnnotationSource]
	return Owner{Source: source, Commit: a[object.AnnotationCommit], File: a[object.AnnotationFile]}, ok
}

// SetGitOwned marks o as belonging to a source: its annotations, and a managedFields entry of manager git:SOURCE with the
// fields that setJSON, the document before defaulting, sets. It changes o's metadata (new maps and slices, so that o may share
// the old ones). The time is when the fields last changed hands, rounded to seconds.
func SetGitOwned(o object.Object, by Owner, setJSON []byte, now time.Time) error {
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	doc, err := gitDoc(k, setJSON)
	if err != nil {
		return fmt.Errorf("read the document of %s: %w", object.KeyOf(o), err)
	}
	notes := make(map[string]string, len(o.GetAnnotations())+3)
	for n, v := range o.GetAnnotations() {
		notes[n] = v
	}
	notes[object.AnnotationSource], notes[object.AnnotationCommit], notes[object.AnnotationFile] = by.Source, by.Commit, by.File
	o.SetAnnotations(notes)

	raw := object.FieldsOf(k, doc).Append(nil)
	manager := object.GitManager(by.Source)
	at := metav1.NewTime(now.Truncate(time.Second))
	entries := make([]metav1.ManagedFieldsEntry, 0, len(o.GetManagedFields())+1)
	for _, e := range o.GetManagedFields() {
		if !strings.HasPrefix(e.Manager, "git:") {
			entries = append(entries, e)
		} else if e.Manager == manager && e.FieldsV1 != nil && e.FieldsV1.GetRawString() == string(raw) && e.Time != nil {
			at = *e.Time
		}
	}
	o.SetManagedFields(append(entries, metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: k.GVK.GroupVersion().String(),
		Time: &at, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(raw)),
	}))
	return nil
}

// Release takes git's part out of a live object that stays when its document goes: what the document set, the annotations and the
// managedFields entry. The result is new; live is not changed.
func Release(live object.Object) (object.Object, error) {
	k, err := object.KindOfObject(live)
	if err != nil {
		return nil, err
	}
	o, err := MergeGit(live, fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"name":%q}}`, k.GVK.GroupVersion(), k.GVK.Kind, live.GetName()))
	if err != nil {
		return nil, err
	}
	free := object.Copy(o)
	free.SetAnnotations(nil)
	free.SetManagedFields(nil)
	KeepGitOwner(o, free)
	return o, nil
}

// GitFields returns the fields of o that sources of git own; empty if none.
func GitFields(o object.Object) object.Fields {
	for _, e := range o.GetManagedFields() {
		if strings.HasPrefix(e.Manager, "git:") && e.FieldsV1 != nil {
			if f, err := object.ParseFields(e.FieldsV1.GetRawBytes()); err == nil {
				return f
			}
		}
	}
	return nil
}

// KeepGitOwner puts the marks of git that old has on o, which a write that is not git's may not change: three annotations and
// the managedFields entry. It changes o's metadata.
func KeepGitOwner(o, old object.Object) {
	notes := make(map[string]string, len(o.GetAnnotations())+3)
	for n, v := range o.GetAnnotations() {
		notes[n] = v
	}
	for _, n := range []string{object.AnnotationSource, object.AnnotationCommit, object.AnnotationFile} {
		delete(notes, n)
		if v, ok := old.GetAnnotations()[n]; ok {
			notes[n] = v
		}
	}
	if len(notes) == 0 {
		notes = nil
	}
	o.SetAnnotations(notes)
	var entries []metav1.ManagedFieldsEntry
	for _, e := range o.GetManagedFields() {
		if !strings.HasPrefix(e.Manager, "git:") {
			entries = append(entries, e)
		}
	}
	for _, e := range old.GetManagedFields() {
		if strings.HasPrefix(e.Manager, "git:") {
			entries = append(entries, e)
		}
	}
	o.SetManagedFields(entries)
}

// GitOwnedConflicts returns the paths of the fields that a write of new over old would change though git owns them. An owner is never given to an object of
// git: with that one's end the garbage collector would delete what git declares. Nor is a time after which it is deleted.
func GitOwnedConflicts(old, new object.Object) ([]string, error) {
	owned := GitFields(old)
	if len(owned) == 0 {
		return nil, nil
	}
	k, err := object.KindOfObject(old)
	if err != nil {
		return nil, err
	}
	was, err := object.ToMap(old)
	if err != nil {
		return nil, err
	}
	now, err := object.ToMap(new)
	if err != nil {
		return nil, err
	}
	var paths []string
	ends := rulesOf(k.Resource).ends
	for _, d := range object.Diff(k, was, now) {
		if owned.Owns(d.Elements) || d.New != nil && slices.Contains(ends, d.Path) {
			paths = append(paths, d.Path)
		}
	}
	if !slices.Contains(paths, ownersPath) && slices.ContainsFunc(new.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return !slices.ContainsFunc(old.GetOwnerReferences(), func(has metav1.OwnerReference) bool { return has.UID == r.UID })
	}) {
		paths = append(paths, ownersPath)
	}
	return paths, nil
}

const ownersPath = "metadata.ownerReferences"

// SetField is a field that a file of git sets: its path as in Kubernetes' errors, and FILE:LINE.
type SetField struct {
	Path, File string
}

// GitDenied is the answer to a write (or, with no fields, a deletion) of an object that git owns: 403, whose message and causes name
// each field, the commit, and the file and line to change instead. A field without a file is named with the object's.
func GitDenied(o object.Object, user string, fields []SetField) error {
	owner, _ := GitOwner(o)
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	fields = slices.Clone(fields)
	for i, f := range fields {
		fields[i].File = cmp.Or(f.File, owner.File)
	}
	why := fmt.Sprintf("the object is owned by git source %q: change %s in the repository and push", owner.Source, owner.File)
	if len(fields) > 0 {
		why = fmt.Sprintf("git source %q owns %s: change it in the repository and push", owner.Source, fieldList(fields))
	}
	e := apierrors.NewForbidden(k.GroupResource(), o.GetName(), errors.New(why))
	cause := func(f SetField) metav1.StatusCause {
		return metav1.StatusCause{Type: metav1.CauseTypeForbidden, Field: f.Path,
			Message: fmt.Sprintf("owned by %s at commit %s, %s", object.GitManager(owner.Source), object.ShortCommit(owner.Commit), f.File)}
	}
	if len(fields) == 0 {
		e.ErrStatus.Details.Causes = []metav1.StatusCause{cause(SetField{File: owner.File})}
	}
	for _, f := range fields {
		e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, cause(f))
	}
	if user != "" {
		e.ErrStatus.Message += fmt.Sprintf(" (user %q)", user)
	}
	return e
}

// fieldList names the first fields with their places: kubectl shows an error's message and none of its causes.
func fieldList(fields []SetField) string {
	const shown = 3
	var parts []string
	for _, f := range fields[:min(shown, len(fields))] {
		parts = append(parts, f.Path+" ("+f.File+")")
	}
	if more := len(fields) - shown; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// MergeGit returns what a live object becomes when git applies a document to it: what the document sets is set, what the same
// source set before and the document leaves out is removed, and all else stays (status, annotations of `rollout restart`,
// replicas that no file sets). setJSON is the document before defaulting. The result is new, defaulted, and not yet marked:
// call SetGitOwned on it. live is not changed.
func MergeGit(live object.Object, setJSON []byte) (object.Object, error) {
	k, err := object.KindOfObject(live)
	if err != nil {
		return nil, err
	}
	doc, err := gitDoc(k, setJSON)
	if err != nil {
		return nil, fmt.Errorf("read the document of %s: %w", object.KeyOf(live), err)
	}
	body, err := object.ToMap(live)
	if err != nil {
		return nil, err
	}
	merged, err := mapTo(k, object.Merge(k, body, doc, GitFields(live)))
	if err != nil {
		return nil, fmt.Errorf("merge the document of %s into the live object: %w", object.KeyOf(live), err)
	}
	merged.SetNamespace(live.GetNamespace())
	Default(merged)
	return merged, nil
}
