package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// labelTemplateGeneration is the label of a daemon's pod that tells the generation of its template.
const labelTemplateGeneration = "pod-template-generation"

// daemonTolerations are what every daemon's pod tolerates: a node in trouble is no reason to be without its daemons.
func daemonTolerations(hostNetwork bool) []corev1.Toleration {
	var out []corev1.Toleration
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		out = append(out, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	}
	keys := []string{corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable}
	if hostNetwork {
		keys = append(keys, corev1.TaintNodeNetworkUnavailable)
	}
	for _, key := range keys {
		out = append(out, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	return out
}

// daemonSpec is a template's specification with a daemon's tolerations, which take the place of the same ones with a time.
func daemonSpec(t *corev1.PodTemplateSpec) *corev1.PodSpec {
	spec := t.Spec
	spec.Tolerations = slices.Clone(t.Spec.Tolerations)
	for _, want := range daemonTolerations(spec.HostNetwork) {
		i := slices.IndexFunc(spec.Tolerations, func(x corev1.Toleration) bool {
			return x.Key == want.Key && x.Effect == want.Effect && x.Operator == want.Operator && x.Value == want.Value
		})
		if i >= 0 {
			spec.Tolerations[i] = want
		} else {
			spec.Tolerations = append(spec.Tolerations, want)
		}
	}
	return &spec
}

// pinned is an affinity that names one node, in place of the nodes that the template's requires: those were asked already.
func pinned(a *corev1.Affinity, node string) *corev1.Affinity {
	out := &corev1.Affinity{}
	if a != nil {
		*out = *a
	}
	on := &corev1.NodeAffinity{}
	if out.NodeAffinity != nil {
		*on = *out.NodeAffinity
	}
	on.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}
	out.NodeAffinity = on
	return out
}

// newPod makes the pod of a node. It shares the template's parts, which nobody changes.
func (r *daemonRun) newPod(name, node string, slot int, owner *metav1.OwnerReference) *corev1.Pod {
	t := &r.live.Spec.Template
	tags := maps.Clone(t.Labels)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[appsv1.DefaultDaemonSetUniqueLabelKey] = r.hash
	if g := r.live.Annotations[appsv1.DeprecatedTemplateGeneration]; g != "" {
		tags[labelTemplateGeneration] = g
	}
	notes := make(map[string]string, len(t.Annotations)+2)
	maps.Copy(notes, t.Annotations)
	handCommit(notes, r.live.Annotations)
	notes[object.AnnotationSlot] = strconv.Itoa(slot)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: r.live.Name + "-", Namespace: r.live.Namespace, UID: HashUID("child", string(r.live.UID), strconv.Itoa(slot)),
			CreationTimestamp: metav1.NewTime(r.now.Truncate(time.Second)), Labels: tags, Annotations: notes, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*owner}},
		Spec: *r.spec,
	}
	p.Spec.Affinity = pinned(r.spec.Affinity, node)
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

// How long a failed pod of a node is left before it is replaced: not at all at first, then 1 s, doubled by every further failure, 15 min
// at most; what is older than twice that is forgotten.
const (
	daemonBackoffFirst = time.Second
	daemonBackoffMost  = 15 * time.Minute
)

// annotationFailures is where a DaemonSet remembers which nodes' pods failed.
const annotationFailures = "reconcile.local/failed-pods"

// daemonFailures are the nodes whose pods failed under the present generation.
type daemonFailures struct {
	Generation int64                    `json:"generation"`
	Nodes      map[string]daemonFailure `json:"nodes"`
}

// daemonFailure is until when a node's next failed pod is left.
type daemonFailure struct {
	Wait time.Duration `json:"wait"`
	At   time.Time     `json:"at"`
}

func readFailures(ds *appsv1.DaemonSet) daemonFailures {
	f := daemonFailures{}
	if text := ds.Annotations[annotationFailures]; text != "" {
		// What cannot be read is forgotten: a pod is then replaced sooner.
		if err := json.Unmarshal([]byte(text), &f); err != nil || f.Generation != ds.Status.ObservedGeneration {
			f = daemonFailures{}
		}
	}
	f.Generation = ds.Status.ObservedGeneration
	if f.Nodes == nil {
		f.Nodes = map[string]daemonFailure{}
	}
	return f
}

// note keeps the memory with the DaemonSet.
func (f daemonFailures) note(ds *appsv1.DaemonSet) {
	if len(f.Nodes) == 0 || f.Generation != ds.Status.ObservedGeneration {
		delete(ds.Annotations, annotationFailures)
		return
	}
	b, err := json.Marshal(f)
	if err != nil {
		return
	}
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[annotationFailures] = string(b)
}

// prune forgets what no longer makes a pod wait: failures of long ago, and of nodes that are gone.
func (f daemonFailures) prune(nodes []daemonNode, now time.Time) {
	if len(f.Nodes) == 0 {
		return
	}
	here := map[string]bool{}
	for _, n := range nodes {
		here[n.name] = true
	}
	maps.DeleteFunc(f.Nodes, func(node string, x daemonFailure) bool { return !here[node] || now.Sub(x.At) > 2*daemonBackoffMost })
}

// replaceFailed deletes a failed pod, unless the node's last one failed just now.
func (r *daemonRun) replaceFailed(p *corev1.Pod, node string) {
	had, ok := r.failures.Nodes[node]
	if ok && r.now.Sub(had.At) > 2*daemonBackoffMost {
		ok = false
	}
	if ok && r.now.Sub(had.At) < had.Wait {
		r.wake(had.At.Add(had.Wait))
		return
	}
	next := daemonFailure{Wait: daemonBackoffFirst, At: r.now}
	if ok {
		next.Wait = min(2*had.Wait, daemonBackoffMost)
	}
	r.failures.Nodes[node] = next
	r.event(corev1.EventTypeWarning, "FailedDaemonPod", fmt.Sprintf("Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, node))
	r.remove(p)
}
