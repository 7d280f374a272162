package controller

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// historyLimit bounds the annotation that lists a ReplicaSet's former revisions.
const historyLimit = 2000

func revision(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[annotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// age orders by creation, then name.
func age(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	if c := revision(a) - revision(b); c != 0 {
		return int(c)
	}
	return strings.Compare(a.Name, b.Name)
}

func sortByAge(sets []*appsv1.ReplicaSet) { slices.SortStableFunc(sets, age) }

// sameTemplate compares two pod templates without the label that the controller adds. It is by meaning, not by hash, so that a
// new version of this program never rolls what did not change.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	strip := func(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
		c := *t
		if _, ok := c.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
			c.Labels = maps.Clone(c.Labels)
			delete(c.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		}
		return c
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

// templateHash names the ReplicaSet of a template.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("hash the pod template: %w", err)
	}
	h := fnv.New64a()
	h.Write(b)
	if collisions != nil {
		h.Write([]byte(strconv.Itoa(int(*collisions))))
	}
	n := h.Sum64()
	out := make([]byte, 10)
	for i := range out {
		out[i] = alphabet[n%uint64(len(alphabet))]
		n /= uint64(len(alphabet))
	}
	return string(out), nil
}

// adoptNew brings the ReplicaSet of the present template up to date (revision, annotations), and makes one if there is none
// and create is set. It also notes the revision on the Deployment.
func (r *rollout) adoptNew(create bool) {
	next := int64(1)
	for _, rs := range r.old() {
		next = max(next, revision(rs)+1)
	}
	if r.fresh == nil {
		if !create || !r.create(next) {
			return
		}
	} else {
		r.refresh(next)
		r.found()
	}
	r.d.Annotations = maps.Clone(r.d.Annotations)
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[annotationRevision] = r.fresh.Annotations[annotationRevision]
}

func (r *rollout) found() {
	if hasDeadline(r.d) && condition(r.d, appsv1.DeploymentProgressing) == nil {
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", r.fresh.Name))
	}
}

// refresh keeps an existing ReplicaSet's annotations, revision and minReadySeconds in step with the Deployment.
func (r *rollout) refresh(next int64) {
	had := r.fresh
	notes := maps.Clone(had.Annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	copyAnnotations(notes, r.d.Annotations)
	if was := revision(had); was < next {
		if had.Annotations[annotationRevision] != "" {
			history := strings.TrimPrefix(notes[annotationHistory]+","+strconv.FormatInt(was, 10), ",")
			for len(history) > historyLimit {
				_, history, _ = strings.Cut(history, ",")
			}
			notes[annotationHistory] = history
		}
		notes[annotationRevision] = strconv.FormatInt(next, 10)
	}
	if maps.Equal(notes, had.Annotations) && had.Spec.MinReadySeconds == r.d.Spec.MinReadySeconds {
		return
	}
	c := r.edit(had)
	c.Annotations, c.Spec.MinReadySeconds = notes, r.d.Spec.MinReadySeconds
}

// copyAnnotations carries a Deployment's annotations to its ReplicaSet, but for those that speak of the Deployment itself.
func copyAnnotations(to, from map[string]string) {
	for k, v := range from {
		switch {
		case k == corev1.LastAppliedConfigAnnotation, k == appsv1.DeprecatedRollbackTo, strings.HasPrefix(k, "deployment.kubernetes.io/"), strings.HasPrefix(k, "reconcile.local/"):
		default:
			to[k] = v
		}
	}
	handCommit(to, from)
}

// handCommit hands the commit of an owner on to what it makes. It stands outside of pod templates, so that no hash and no
// rollout follows from it.
func handCommit(to, owner map[string]string) {
	if commit, ok := owner[object.AnnotationCommit]; ok {
		to[object.AnnotationCommit] = commit
	}
}

// create makes the ReplicaSet of the present template. It tells false if its name is taken by another: then the count of
// collisions grows, and the next run tries another name.
func (r *rollout) create(next int64) bool {
	hash, err := templateHash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	if err != nil {
		r.event("FailedCreate", err.Error())
		return false
	}
	name := truncate(r.d.Name, 242) + "-" + hash
	if _, taken := r.v.Get(object.Key{Resource: "replicasets", Namespace: r.d.Namespace, Name: name}); taken {
		n := int32(1)
		if r.d.Status.CollisionCount != nil {
			n = *r.d.Status.CollisionCount + 1
		}
		r.d.Status.CollisionCount = &n
		return false
	}
	template := *r.d.Spec.Template.DeepCopy()
	template.Labels = withLabel(template.Labels, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	size := int32(0)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: r.d.Namespace, Labels: template.Labels, Annotations: map[string]string{},
			UID:             HashUID("replicaset", string(r.d.UID), name, strconv.FormatInt(next, 10)),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.live, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &size, MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	rs.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	copyAnnotations(rs.Annotations, r.d.Annotations)
	rs.Annotations[annotationRevision] = strconv.FormatInt(next, 10)
	r.sets = append(r.sets, rs)
	r.fresh = rs
	r.changed[name] = rs
	r.order = append(r.order, name)
	size = r.freshTarget()
	r.noteScale(rs, true)
	if size > 0 {
		r.event("ScalingReplicaSet", fmt.Sprintf("Scaled up replica set %s from 0 to %d", name, size))
	}
	if hasDeadline(r.d) {
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", name))
	}
	return true
}

func withLabel(labels map[string]string, hash string) map[string]string {
	out := make(map[string]string, len(labels)+1)
	maps.Copy(out, labels)
	out[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return out
}
