package object

import (
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
)

// Alike is a sort of pods of one namespace that need not be told from each other where only their number is asked for. Pods of one sort have the same
// controller, labels (but those that number them), requests, limits, class of service and PriorityClass, all or none of them an active deadline and rules
// about pods of other namespaces, all or none of them are ready, and have ended, all or none terminate, and should be gone at the same time, and where their
// size is being changed they have the same so far.
type Alike struct {
	// Sort is the same for the same sort, and different for different ones.
	Sort string
	// Example is one of them, or was until lately. It is shared and not changed.
	Example *corev1.Pod
	// Pods is how many there are.
	Pods int
}

// numbering are the labels that number the pods of an owner, of which each pod has its own value.
var numbering = map[string]bool{appsv1.StatefulSetPodNameLabel: true, appsv1.PodIndexLabel: true, batchv1.JobCompletionIndexAnnotation: true}

// SeesAlike tells whether a selector takes or leaves all pods of a sort: it does not ask for a label that numbers them.
func SeesAlike(s labels.Selector) bool {
	asked, selects := s.Requirements()
	return !selects || !slices.ContainsFunc(asked, func(r labels.Requirement) bool { return numbering[r.Key()] })
}

// Ready tells whether a pod's condition Ready is True.
func Ready(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Ended tells whether a pod's containers have ended for good.
func Ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// controllerOf is the UID of a pod's controller, empty if it has none.
func controllerOf(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return ref.UID
	}
	return ""
}

// SortsOf begins the sorts of a namespace's pods, or of those that owner controls if it is not empty.
func SortsOf(namespace string, owner types.UID) string {
	if owner == "" {
		return namespace + "/"
	}
	return namespace + "/" + string(owner) + "/"
}

// SortOf is a pod's sort.
func SortOf(p *corev1.Pod) string {
	b := make([]byte, 0, 256)
	b = append(append(b, p.Namespace...), '/')
	b = append(append(b, controllerOf(p)...), '/')
	s := &p.Spec
	b = append(b, "-t"[at(p.DeletionTimestamp != nil)], "-r"[at(Ready(p))], "-e"[at(Ended(p))], "-d"[at(s.ActiveDeadlineSeconds != nil)], "-x"[at(CrossesNamespaces(p))])
	if p.DeletionTimestamp != nil {
		b = strconv.AppendInt(append(b, '@'), goneBy(p), 10)
	}
	b = append(append(b, p.Status.QOSClass...), '/')
	b = append(append(b, s.PriorityClassName...), '/')
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) { // neither part of a label may hold one of these two signs
		if !numbering[k] {
			b = append(append(append(append(b, k...), '='), p.Labels[k]...), ',')
		}
	}
	if s.Resources != nil {
		b = appendResources(append(b, 'p'), s.Resources)
	}
	b = appendContainers(append(b, 'c'), s.Containers)
	b = appendContainers(append(b, 'i'), s.InitContainers)
	b = appendList(append(b, 'o'), s.Overhead)
	if Resizing(p) {
		b = append(b, "-i"[at(resource.IsPodResizeInfeasible(p))])
		for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
			for i := range list {
				if r := list[i].Resources; r != nil {
					b = append(append(b, list[i].Name...), '=')
					b = append(appendList(append(appendResources(b, r), '|'), list[i].AllocatedResources), ';')
				}
			}
		}
	}
	return string(b)
}

// goneBy is the second until which a terminating pod is waited for, with as long again as its grace; 0 if it has none.
func goneBy(p *corev1.Pod) int64 {
	if p.DeletionGracePeriodSeconds == nil {
		return 0
	}
	return p.DeletionTimestamp.Unix() + *p.DeletionGracePeriodSeconds
}

// CrossesNamespaces tells whether a pod's rules about other pods, required or preferred, name namespaces or select them: what the quota scope
// CrossNamespacePodAffinity is about.
func CrossesNamespaces(p *corev1.Pod) bool {
	a := p.Spec.Affinity
	if a == nil {
		return false
	}
	term := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return term(t.PodAffinityTerm) }
	if w := a.PodAffinity; w != nil && (slices.ContainsFunc(w.RequiredDuringSchedulingIgnoredDuringExecution, term) || slices.ContainsFunc(w.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) {
		return true
	}
	w := a.PodAntiAffinity
	return w != nil && (slices.ContainsFunc(w.RequiredDuringSchedulingIgnoredDuringExecution, term) || slices.ContainsFunc(w.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}

// Resizing tells whether a container of a pod has, or was allotted, something else than it asks for: its size is being changed.
func Resizing(p *corev1.Pod) bool {
	return resizing(p.Spec.Containers, p.Status.ContainerStatuses) || resizing(p.Spec.InitContainers, p.Status.InitContainerStatuses)
}

func resizing(list []corev1.Container, has []corev1.ContainerStatus) bool {
	for i := range has {
		s := &has[i]
		if s.Resources == nil {
			continue
		}
		for j := range list {
			if list[j].Name != s.Name {
				continue
			}
			asks := &list[j].Resources
			if !equalAmounts(s.Resources.Requests, asks.Requests) || !equalAmounts(s.Resources.Limits, asks.Limits) || len(s.AllocatedResources) > 0 && !equalAmounts(s.AllocatedResources, asks.Requests) {
				return true
			}
		}
	}
	return false
}

func equalAmounts(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y kresource.Quantity) bool { return x.Cmp(y) == 0 })
}

func appendContainers(b []byte, list []corev1.Container) []byte {
	for i := range list {
		b = appendResources(b, &list[i].Resources)
		if r := list[i].RestartPolicy; r != nil {
			b = append(b, *r...)
		}
		b = append(b, ';')
	}
	return b
}

func appendResources(b []byte, r *corev1.ResourceRequirements) []byte {
	return appendList(append(appendList(b, r.Requests), '|'), r.Limits)
}

func appendList(b []byte, list corev1.ResourceList) []byte {
	if len(list) == 0 {
		return b
	}
	var few [8]string
	names := few[:0]
	for name := range list {
		names = append(names, string(name))
	}
	slices.Sort(names)
	for _, name := range names {
		q := list[corev1.ResourceName(name)]
		var digits [20]byte
		number, suffix := q.CanonicalizeBytes(digits[:0])
		b = append(append(append(append(append(b, name...), '='), number...), suffix...), ',')
	}
	return b
}

// SameSort tells quickly of two versions of a pod that they are of one sort; it may say no of some that are.
func SameSort(a, b *corev1.Pod) bool {
	if controllerOf(a) != controllerOf(b) || Ended(a) != Ended(b) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) || Ready(a) != Ready(b) {
		return false
	}
	if a.DeletionTimestamp != nil && goneBy(a) != goneBy(b) {
		return false
	}
	x, y := &a.Spec, &b.Spec
	if a.Status.QOSClass != b.Status.QOSClass || x.PriorityClassName != y.PriorityClassName || (x.ActiveDeadlineSeconds == nil) != (y.ActiveDeadlineSeconds == nil) || !maps.Equal(a.Labels, b.Labels) {
		return false
	}
	if CrossesNamespaces(a) != CrossesNamespaces(b) || Resizing(a) || Resizing(b) {
		return false
	}
	return x.Resources == nil && y.Resources == nil && sameContainers(x.Containers, y.Containers) && sameContainers(x.InitContainers, y.InitContainers) && sameList(x.Overhead, y.Overhead)
}

func sameContainers(a, b []corev1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if (x.RestartPolicy == nil) != (y.RestartPolicy == nil) || x.RestartPolicy != nil && *x.RestartPolicy != *y.RestartPolicy ||
			!sameList(x.Resources.Requests, y.Resources.Requests) || !sameList(x.Resources.Limits, y.Resources.Limits) {
			return false
		}
	}
	return true
}

func sameList(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		y, ok := b[name]
		if !ok || x.Format != y.Format || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

func at(b bool) int {
	if b {
		return 1
	}
	return 0
}
