package controller

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// history is the revisions of a StatefulSet's or a DaemonSet's pod template: ControllerRevisions whose data is the patch that brings the
// template back, as kubectl rollout undo expects it. They are compared by meaning, so that a new version of this program, which may
// write defaults otherwise, rolls nothing.
type history struct {
	v        View
	owner    object.Object
	kind     schema.GroupVersionKind
	template *corev1.PodTemplateSpec
	// label is the one under which a revision has its hash.
	label string

	// all are the owner's revisions, oldest first; update the one of the present template.
	all        []*appsv1.ControllerRevision
	update     *appsv1.ControllerRevision
	collisions int32
	// put are the revisions to write.
	put []object.Object
}

// read finds the owner's revisions. Where it has none it takes over those that an owner before it left behind.
func (h *history) read(selector labels.Selector) {
	for o := range h.v.Owned(h.owner.GetUID()) {
		if rev, ok := o.(*appsv1.ControllerRevision); ok && metav1.IsControlledBy(rev, h.owner) {
			h.all = append(h.all, rev)
		}
	}
	if len(h.all) == 0 && h.owner.GetDeletionTimestamp() == nil {
		for o := range h.v.List("controllerrevisions", h.owner.GetNamespace()) {
			if metav1.GetControllerOfNoCopy(o) != nil || o.GetDeletionTimestamp() != nil || !selector.Matches(labels.Set(o.GetLabels())) {
				continue
			}
			c := object.Copy(o.(*appsv1.ControllerRevision))
			c.OwnerReferences = append(c.OwnerReferences, *metav1.NewControllerRef(h.owner, h.kind))
			h.all = append(h.all, c)
			h.put = append(h.put, c)
		}
	}
	slices.SortStableFunc(h.all, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// find sets update to the revision of the present template: the newest if that is it, an older one, which becomes the newest, or a
// new one. known is the name of the one that was found when the template was the same; empty if it may have changed.
func (h *history) find(known string) error {
	var newest *appsv1.ControllerRevision
	if n := len(h.all); n > 0 {
		newest = h.all[n-1]
	}
	if known != "" && newest != nil && newest.Name == known {
		h.update = newest
		return nil
	}
	data, err := revisionData(h.template)
	if err != nil {
		return err
	}
	for i, rev := range slices.Backward(h.all) {
		if !h.same(rev, data) {
			continue
		}
		if rev != newest {
			c := object.Copy(rev)
			c.Revision = newest.Revision + 1
			h.put = append(h.put, c)
			h.all = append(slices.Delete(h.all, i, i+1), c)
			rev = c
		}
		h.update = rev
		return nil
	}
	next := int64(1)
	if newest != nil {
		next = newest.Revision + 1
	}
	h.update = h.newRevision(data, next)
	h.all = append(h.all, h.update)
	h.put = append(h.put, h.update)
	return nil
}

// same tells whether a revision is that of the present template, whose data is given.
func (h *history) same(rev *appsv1.ControllerRevision, data []byte) bool {
	if bytes.Equal(rev.Data.Raw, data) {
		return true
	}
	t, err := revisionTemplate(rev)
	return err == nil && equality.Semantic.DeepEqual(t, h.template)
}

func (h *history) newRevision(data []byte, number int64) *appsv1.ControllerRevision {
	hash := revisionHash(data, h.collisions)
	name := truncate(h.owner.GetName(), 223) + "-" + hash
	for {
		if _, taken := h.v.Get(object.Key{Resource: "controllerrevisions", Namespace: h.owner.GetNamespace(), Name: name}); !taken {
			break
		}
		h.collisions++
		hash = revisionHash(data, h.collisions)
		name = truncate(h.owner.GetName(), 223) + "-" + hash
	}
	tags := maps.Clone(h.template.Labels)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[h.label] = hash
	notes := map[string]string{}
	copyAnnotations(notes, h.owner.GetAnnotations())
	rev := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: h.owner.GetNamespace(), Labels: tags, Annotations: notes,
			UID:             HashUID("revision", string(h.owner.GetUID()), name, strconv.FormatInt(number, 10)),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(h.owner, h.kind)}},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	rev.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"))
	return rev
}

// labelRevisionHash has the hash of a StatefulSet's revision.
const labelRevisionHash = "controller.kubernetes.io/hash"

// surplus are the oldest revisions that nobody uses and that are beyond the limit.
func (h *history) surplus(limit *int32, live map[string]bool) []Deletion {
	if limit == nil || *limit < 0 {
		return nil
	}
	var old []Deletion
	for _, rev := range h.all {
		if !live[rev.Name] {
			old = append(old, Deletion{Key: object.KeyOf(rev)})
		}
	}
	return old[:max(0, len(old)-int(*limit))]
}

// oldest are the oldest revisions beyond the limit, but for those whose hash is in use, which count all the same.
func (h *history) oldest(limit *int32, hashes map[string]bool) []Deletion {
	if limit == nil || *limit < 0 {
		return nil
	}
	var out []Deletion
	for _, rev := range h.all {
		if len(out) < len(h.all)-1-int(*limit) && rev != h.update && !hashes[rev.Labels[h.label]] {
			out = append(out, Deletion{Key: object.KeyOf(rev)})
		}
	}
	return out
}

// named returns the revision of a name, nil if there is none.
func (h *history) named(name string) *appsv1.ControllerRevision {
	for _, rev := range h.all {
		if rev.Name == name {
			return rev
		}
	}
	return nil
}

func revisionHash(data []byte, collisions int32) string {
	h := fnv.New32()
	h.Write(data)
	h.Write([]byte(strconv.Itoa(int(collisions))))
	text := []byte(strconv.FormatUint(uint64(h.Sum32()), 10))
	for i, c := range text {
		text[i] = alphabet[int(c)%len(alphabet)]
	}
	return string(text)
}

// revisionData is the strategic merge patch that makes a set's template the one given.
func revisionData(t *corev1.PodTemplateSpec) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("write the pod template as a revision: %w", err)
	}
	template := map[string]any{}
	if err := json.Unmarshal(b, &template); err != nil {
		return nil, fmt.Errorf("write the pod template as a revision: %w", err)
	}
	template["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
}

// revisionTemplate is the template that a revision brings back.
func revisionTemplate(rev *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(rev.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("read the revision %s: %w", rev.Name, err)
	}
	return &data.Spec.Template, nil
}
