package admission

import (
	"fmt"
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

// GitOwnedConflicts returns the paths of the fields that a write of new over old would change though git owns them.
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
	for _, d := range object.Diff(k, was, now) {
		if owned.Owns(d.Elements) {
			paths = append(paths, d.Path)
		}
	}
	return paths, nil
}

// GitDenied is the answer to a write (or, with no paths, a deletion) of an object that git owns: 403, whose causes name each
// field, the commit, and the file and line to change instead.
func GitDenied(o object.Object, user string, paths []string) error {
	owner, _ := GitOwner(o)
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	what := "the object is"
	switch n := len(paths); {
	case n == 1:
		what = paths[0] + " is"
	case n > 3:
		what = fmt.Sprintf("%s and %d more fields are", strings.Join(paths[:2], ", "), n-2)
	case n > 1:
		what = strings.Join(paths, ", ") + " are"
	}
	e := apierrors.NewForbidden(k.GroupResource(), o.GetName(), fmt.Errorf(
		"%s owned by git source %q: change %s in the repository and push", what, owner.Source, owner.File))
	cause := func(path string) metav1.StatusCause {
		return metav1.StatusCause{Type: metav1.CauseTypeForbidden, Field: path,
			Message: fmt.Sprintf("owned by %s at commit %s, %s", object.GitManager(owner.Source), object.ShortCommit(owner.Commit), owner.File)}
	}
	if len(paths) == 0 {
		e.ErrStatus.Details.Causes = []metav1.StatusCause{cause("")}
	}
	for _, p := range paths {
		e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, cause(p))
	}
	if user != "" {
		e.ErrStatus.Message += fmt.Sprintf(" (user %q)", user)
	}
	return e
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
