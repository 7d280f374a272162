package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// maxGenerated is how long the part before a generated name's suffix may be.
const maxGenerated = 58

func labelSet(o object.Object) labels.Set { return labels.Set(o.GetLabels()) }

// manage makes or deletes pods so that as many run as should, and returns how many then do. One run does only one of both.
func (r *jobRun) manage() int32 {
	j, active := r.j, int32(len(r.active))
	if suspended(j) {
		for _, p := range r.surplus(len(r.active)) {
			r.discard(p)
		}
		return 0
	}
	want := r.wanted(active)
	if gone := r.surplus(int(max(0, active-want))); len(gone) > 0 {
		for _, p := range gone {
			r.discard(p)
		}
		return active - int32(len(gone))
	}
	missing := want - active
	if replaceFailedOnly(j) {
		missing -= r.terminating
	}
	if missing <= 0 {
		return active
	}
	if j.Spec.BackoffLimitPerIndex == nil {
		if at := r.backoff.until(); at.After(r.now) {
			r.wake(at)
			return active
		}
	}
	return active + int32(r.create(int(missing)))
}

// wanted is how many pods should run.
func (r *jobRun) wanted(active int32) int32 {
	if r.j.Spec.Completions == nil {
		if r.succeeded > 0 {
			// The first success lets run what runs, and starts no more.
			return active
		}
		return *r.j.Spec.Parallelism
	}
	return max(0, min(*r.j.Spec.Completions-r.succeeded, *r.j.Spec.Parallelism))
}

// surplus are the active pods to delete: of an indexed Job those without a valid index and all but one of an index, then the least
// useful until there are n.
func (r *jobRun) surplus(n int) []*corev1.Pod {
	left := slices.Clone(r.active)
	slices.SortStableFunc(left, compareActive)
	var gone []*corev1.Pod
	if indexed(r.j) {
		// The last of an index in this order is the one that has come furthest: it stays.
		kept := map[int]*corev1.Pod{}
		for _, p := range left {
			if validIndex(r.j, p) {
				kept[indexOf(p)] = p
			}
		}
		var rest []*corev1.Pod
		for _, p := range left {
			if kept[indexOf(p)] == p {
				rest = append(rest, p)
			} else {
				gone = append(gone, p)
			}
		}
		left = rest
	}
	if more := n - len(gone); more > 0 {
		gone = append(gone, left[:more]...)
	}
	return gone
}

// edit returns a copy of a pod that may be changed and will be written.
func (r *jobRun) edit(p *corev1.Pod) *corev1.Pod {
	if c, ok := r.edited[p.Name]; ok {
		return c
	}
	c := *p
	r.edited[p.Name] = &c
	r.order = append(r.order, p.Name)
	return &c
}

func (r *jobRun) untrack(p *corev1.Pod) {
	if tracked(p) {
		c := r.edit(p)
		c.Finalizers = untracked(p).Finalizers
	}
}

// discard deletes a pod that is too many; it is not counted as failed.
func (r *jobRun) discard(p *corev1.Pod) {
	r.untrack(p)
	r.remove(p)
}

// remove deletes a pod.
func (r *jobRun) remove(p *corev1.Pod) {
	r.res.Delete = append(r.res.Delete, Deletion{Key: object.KeyOf(p)})
	r.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+p.Name)
	if p.Spec.NodeName != "" {
		r.terminating++
	}
	if podReady(p) {
		r.ready--
	}
}

// create makes n pods, or as many as there are indexes whose back-off has passed, and returns how many.
func (r *jobRun) create(n int) int {
	indexes := make([]int, n)
	if indexed(r.j) {
		indexes = r.pending(n)
	}
	if len(indexes) == 0 {
		return 0
	}
	slot, err := strconv.Atoi(r.live.Annotations[annotationNextSlot])
	if err != nil {
		slot = 0
	}
	template := r.template()
	owner := metav1.NewControllerRef(r.live, batchv1.SchemeGroupVersion.WithKind("Job"))
	var made []string
	gate := newPodGate(r.v, r.admit, r.live.Namespace, r.now)
	for _, index := range indexes {
		prefix := truncate(r.live.Name, 57) + "-"
		if indexed(r.j) {
			tail := "-" + strconv.Itoa(index) + "-"
			prefix = truncate(r.live.Name, maxGenerated-len(tail)) + tail
		}
		name := prefix + slotSuffix(r.live.UID, slot)
		for r.taken(name) {
			slot++
			name = prefix + slotSuffix(r.live.UID, slot)
		}
		p := r.newPod(template, name, slot, owner)
		p.GenerateName = prefix
		if indexed(r.j) {
			r.indexPod(p, index)
		}
		if err := gate.take(p); err != nil {
			r.event(corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
			r.wake(r.now.Add(retryRefused))
			break
		}
		r.res.Put = append(r.res.Put, p)
		made = append(made, name)
		slot++
	}
	if r.j.Annotations == nil {
		r.j.Annotations = map[string]string{}
	}
	r.j.Annotations[annotationNextSlot] = strconv.Itoa(slot)
	tellPods(&r.res, r.live, "job-controller", "SuccessfulCreate", "Created pod: ", made)
	return len(made)
}

func (r *jobRun) taken(name string) bool {
	_, taken := r.v.Get(object.Key{Resource: "pods", Namespace: r.live.Namespace, Name: name})
	return taken
}

// pending are at most n indexes that have neither run to an end nor run now, and may be tried again.
func (r *jobRun) pending(n int) []int {
	done := r.succeededIndexes.union(r.failedIndexes).with(indexesOf(r.active)...)
	if replaceFailedOnly(r.j) {
		for _, p := range r.pods {
			if p.DeletionTimestamp != nil && !podEnded(p) && indexOf(p) >= 0 {
				done = done.with(indexOf(p))
			}
		}
	}
	first := done.missing(n, int(*r.j.Spec.Completions))
	if r.j.Spec.BackoffLimitPerIndex == nil {
		return first
	}
	var out []int
	for _, x := range first {
		if at := indexBackoff(r.delayed[x]); at.After(r.now) {
			r.wake(at)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// template is the specification of all pods of this run, which they share.
func (r *jobRun) template() *corev1.PodTemplateSpec {
	if !indexed(r.j) {
		return &r.live.Spec.Template
	}
	t := r.live.Spec.Template.DeepCopy()
	for _, list := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "JOB_COMPLETION_INDEX" }) {
				c.Env = append(c.Env, corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
					FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)}}})
			}
		}
	}
	return t
}

// newPod makes the pod of a slot. It shares the template's parts, which nobody changes.
func (r *jobRun) newPod(t *corev1.PodTemplateSpec, name string, slot int, owner *metav1.OwnerReference) *corev1.Pod {
	notes := make(map[string]string, len(t.Annotations)+4)
	maps.Copy(notes, t.Annotations)
	handCommit(notes, r.live.Annotations)
	notes[object.AnnotationSlot] = strconv.Itoa(slot)
	finalizers := slices.Clone(t.Finalizers)
	if !slices.Contains(finalizers, batchv1.JobTrackingFinalizer) {
		finalizers = append(finalizers, batchv1.JobTrackingFinalizer)
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: r.live.Namespace, UID: HashUID("child", string(r.live.UID), strconv.Itoa(slot)),
			CreationTimestamp: metav1.NewTime(r.now.Truncate(time.Second)), Labels: t.Labels, Annotations: notes, Finalizers: finalizers,
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: t.Spec,
	}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

// indexPod tells a pod its index, and how often those before it failed.
func (r *jobRun) indexPod(p *corev1.Pod, index int) {
	x := strconv.Itoa(index)
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[batchv1.JobCompletionIndexAnnotation] = x
	p.Annotations[batchv1.JobCompletionIndexAnnotation] = x
	p.Spec.Hostname = r.live.Name + "-" + x
	if r.j.Spec.BackoffLimitPerIndex == nil {
		return
	}
	counted, ignored := 0, 0
	if last := r.delayed[index]; last != nil {
		counted, ignored = failuresOf(last)
		if action, _ := failurePolicy(r.j.Spec.PodFailurePolicy, last); action == batchv1.PodFailurePolicyActionIgnore {
			ignored++
		} else {
			counted++
		}
	}
	p.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(counted)
	if ignored > 0 {
		p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(ignored)
	}
}
