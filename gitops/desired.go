package gitops

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/admission"
	"reconcile/manifests"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/sequencer"
)

// desired is what a tree makes of the state: the writes, or why it may not.
type desired struct {
	ops     []sequencer.Op
	adopted map[object.Key]bool
	deleted []object.Key
	// owned is the number of live objects that the source owns before.
	owned    int
	created  int
	changed  int
	findings []manifests.Finding
	warnings []string
}

// decision compares a tree with the one before and with the live objects. It is a function of its fields.
type decision struct {
	view    View
	cluster string
	source  string
	commit  string
	now     time.Time
	before  tree
	after   tree
	// order are the manifests of after in the order of the tree.
	order []*manifests.Manifest
}

// decide finds what is to be written. Objects whose documents are as before and which are still there and owned cost a lookup.
func (d *decision) decide() (*desired, error) {
	out := &desired{adopted: map[object.Key]bool{}}
	for _, m := range d.order {
		live, exists := d.view.Get(m.Key)
		if exists && d.unchanged(m, live) {
			continue
		}
		if err := d.want(out, m, live, exists); err != nil {
			return nil, err
		}
	}
	if err := d.prune(out); err != nil {
		return nil, err
	}
	// Namespaces come first and deletions last; apart from that the order does not matter.
	slices.SortStableFunc(out.ops, func(a, b sequencer.Op) int { return rank(a) - rank(b) })
	return out, nil
}

func rank(op sequencer.Op) int {
	switch {
	case op.Verb == sequencer.Delete:
		return 2
	case op.Key.Resource == "namespaces":
		return 0
	}
	return 1
}

func (d *decision) unchanged(m *manifests.Manifest, live object.Object) bool {
	owner, owned := admission.GitOwner(live)
	was, ok := d.before.objs[m.Key]
	return ok && owned && owner.Source == d.source && live.GetDeletionTimestamp() == nil && (was == m || bytes.Equal(was.Set, m.Set))
}

// want adds the write that makes the live object what the document says.
func (d *decision) want(out *desired, m *manifests.Manifest, live object.Object, exists bool) error {
	if fault := d.namespaceFault(m); fault != "" {
		out.findings = append(out.findings, manifests.Finding{Position: m.Fields().Of("metadata.namespace"), Message: fault})
		return nil
	}
	if w := ignored(m); w != "" {
		out.warnings = append(out.warnings, w)
	}
	if !exists {
		return d.create(out, m)
	}
	owner, owned := admission.GitOwner(live)
	switch {
	case owned && owner.Source != d.source:
		out.findings = append(out.findings, manifests.Finding{Position: m.Position, Message: fmt.Sprintf(
			"%s belongs to git source %q (%s); remove it there first", m.Key, owner.Source, owner.File)})
		return nil
	case live.GetDeletionTimestamp() != nil:
		out.findings = append(out.findings, manifests.Finding{Position: m.Position, Message: fmt.Sprintf(
			"%s is being deleted; push again when it is gone", m.Key)})
		return nil
	case !owned:
		out.adopted[m.Key] = true
		out.warnings = append(out.warnings, fmt.Sprintf("%s exists and is adopted: from now on git owns what %s sets", m.Key, m.Position.File))
	}
	return d.update(out, m, live)
}

// mistake is the place of what the writer refuses for a reason that lies in a document: the admission's, whose errors name a kind and a name. False
// where another error, or none, came back, and where documents of several namespaces may be meant.
func (d *decision) mistake(want *desired, err error) (found manifests.Finding, ok bool) {
	var status apierrors.APIStatus
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return found, false
	}
	about := status.Status().Details
	written := map[object.Key]bool{}
	for _, op := range want.ops {
		written[op.Key] = op.Verb != sequencer.Delete
	}
	for _, m := range d.order {
		k, kindErr := object.KindOfObject(m.Object)
		if kindErr != nil || !written[m.Key] || m.Key.Name != about.Name || about.Kind != k.Resource && about.Kind != k.GVK.Kind {
			continue
		}
		at := m.Position
		if p, isPod := m.Object.(*corev1.Pod); isPod && strings.Contains(err.Error(), "service account ") {
			if !strings.Contains(err.Error(), fmt.Sprintf("service account %s/%s:", p.Namespace, p.Spec.ServiceAccountName)) {
				continue
			}
			at = m.Fields().Of("spec.serviceAccountName")
		} else if len(about.Causes) > 0 {
			at = m.Fields().Of(about.Causes[0].Field)
		}
		if ok {
			return found, false
		}
		found, ok = manifests.Finding{Position: at, Message: err.Error()}, true
	}
	return found, ok
}

func (d *decision) owner(m *manifests.Manifest) admission.Owner {
	return admission.Owner{Source: d.source, Commit: d.commit, File: fmt.Sprintf("%s:%d", m.Position.File, m.Position.Line)}
}

func (d *decision) create(out *desired, m *manifests.Manifest) error {
	o := object.Copy(m.Object)
	o.SetUID(uidOf(d.cluster, d.source, d.commit, m.Key.Path()))
	if err := admission.SetGitOwned(o, d.owner(m), m.Set, d.now); err != nil {
		return fmt.Errorf("%s: %w", m.Position, err)
	}
	out.created++
	out.ops = append(out.ops, sequencer.Op{Verb: sequencer.Create, Key: m.Key, Object: o})
	return nil
}

func (d *decision) update(out *desired, m *manifests.Manifest, live object.Object) error {
	next, err := admission.MergeGit(live, m.Set)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Position, err)
	}
	if err := admission.SetGitOwned(next, d.owner(m), m.Set, d.now); err != nil {
		return fmt.Errorf("%s: %w", m.Position, err)
	}
	// What the server counts and keeps by itself must be as it will be stored: a daemon set's template has a number that grows with it.
	admission.PrepareUpdate(next, live)
	if faults := admission.Validate(next, live); len(faults) > 0 {
		at := m.Fields()
		for _, f := range faults {
			out.findings = append(out.findings, manifests.Finding{Position: at.Of(f.Field), Message: f.Field + ": " + f.ErrorBody()})
		}
		return nil
	}
	out.changed++
	out.ops = append(out.ops, sequencer.Op{Verb: sequencer.Update, Key: m.Key, Object: next, UID: string(live.GetUID()), ResourceVersion: live.GetResourceVersion()})
	return nil
}

// namespaceFault says why an object cannot be made in its namespace, or nothing.
func (d *decision) namespaceFault(m *manifests.Manifest) string {
	ns := m.Key.Namespace
	if ns == "" {
		return ""
	}
	key := object.Key{Resource: "namespaces", Name: ns}
	live, exists := d.view.Get(key)
	_, wanted := d.after.objs[key]
	switch {
	case exists && live.GetDeletionTimestamp() != nil:
		return fmt.Sprintf("namespace %s is being deleted; push again when it is gone", ns)
	case !exists && !wanted:
		return fmt.Sprintf("metadata.namespace: namespace %q does not exist; add a manifest for it", ns)
	}
	return ""
}

// prune deletes what this source owns and the tree does not hold. The mark on the live object tells who owns it, and no other memory:
// what was made once is found whatever has been read or forgotten since. A moved file is no deletion, since objects are compared
// by key. A namespace that no cluster can be without is released instead.
func (d *decision) prune(out *desired) error {
	for live := range d.view.FromSource(d.source) {
		out.owned++
		key := object.KeyOf(live)
		if _, still := d.after.objs[key]; still || live.GetDeletionTimestamp() != nil {
			continue
		}
		if admission.CheckDelete(live) != nil {
			if err := d.release(out, key, live); err != nil {
				return err
			}
			continue
		}
		out.deleted = append(out.deleted, key)
	}
	slices.SortFunc(out.deleted, object.Key.Compare)
	for _, key := range out.deleted {
		live, _ := d.view.Get(key)
		out.ops = append(out.ops, sequencer.Op{Verb: sequencer.Delete, Key: key, UID: string(live.GetUID())})
	}
	return nil
}

// release adds the write that makes a live object nobody's.
func (d *decision) release(out *desired, key object.Key, live object.Object) error {
	next, err := admission.Release(live)
	if err != nil {
		return fmt.Errorf("release %s: %w", key, err)
	}
	out.changed++
	out.warnings = append(out.warnings, fmt.Sprintf("%s may not be deleted: it stays, and git no longer owns it", key))
	out.ops = append(out.ops, sequencer.Op{Verb: sequencer.Update, Key: key, Object: next, UID: string(live.GetUID()), ResourceVersion: live.GetResourceVersion()})
	return nil
}

// guard is the question whether so much may be pruned.
func (d *decision) guard(out *desired, c *candidate) error {
	return plan.Guard{Owned: out.owned, Wanted: len(d.order), Deleted: out.deleted, Allowed: c.opts.allowDelete, Way: c.way}.Check()
}

// uidOf is the UID of an object from git: the hash of cluster, source, creating commit and key in the form of a UUID, so that
// a forecast knows it.
func uidOf(parts ...string) types.UID {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	b := h.Sum(nil)
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}
