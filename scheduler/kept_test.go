package scheduler

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"reconcile/object"
)

// world is a Source whose objects change, and which notes the keys of those that did.
type world struct {
	objects map[object.Key]object.Object
	changed []object.Key
	uids    int
	usage   map[object.Key]object.Usage
}

// Usage is what a pod was measured to use; nobody is told that it changes.
func (w *world) Usage(pod object.Key) (object.Usage, bool) { u, ok := w.usage[pod]; return u, ok }

func (w *world) put(o object.Object) {
	k := object.KeyOf(o)
	w.objects[k] = o
	w.changed = append(w.changed, k)
}

func (w *world) remove(k object.Key) {
	delete(w.objects, k)
	w.changed = append(w.changed, k)
}

func (w *world) Get(k object.Key) (object.Object, bool) { o, ok := w.objects[k]; return o, ok }

func (w *world) List(resource, namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(w.objects), object.Key.Compare) {
			if k.Resource == resource && (namespace == "" || namespace == k.Namespace) && !yield(w.objects[k]) {
				return
			}
		}
	}
}

func (w *world) pods(fits func(*corev1.Pod) bool) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for o := range w.List("pods", "") {
			if p := o.(*corev1.Pod); fits(p) && !yield(p) {
				return
			}
		}
	}
}

func (w *world) PodsOn(node string) iter.Seq[*corev1.Pod] {
	return w.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == node })
}

func (w *world) Unbound() iter.Seq[*corev1.Pod] {
	return w.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == "" && p.DeletionTimestamp == nil && !ended(p) })
}

// TestKept: whatever changes in a cluster, and whatever becomes of what was decided, a snapshot that is brought from one state to the next
// decides as one that was just made, to the words and victims.
func TestKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{objects: map[object.Key]object.Object{}, usage: map[object.Key]object.Usage{}}
		var k Kept
		optional := rapid.SampledFrom([]int64{0, 0, 5}).Draw(rt, "optional scores")
		for i := range rapid.IntRange(2, 5).Draw(rt, "nodes") {
			w.node(rt, fmt.Sprintf("n%d", i))
		}
		for range rapid.IntRange(2, 12).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 6).Draw(rt, "changes") {
				w.change(rt)
			}
			pending := slices.Collect(w.Unbound())
			profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
			profiles[corev1.DefaultSchedulerName].HardPodAffinityWeight = rapid.Int64Range(1, 2).Draw(rt, "profile")
			profiles[corev1.DefaultSchedulerName].Weights[measuredLoad] = optional
			profiles[corev1.DefaultSchedulerName].Weights[networkDistance] = optional
			kept := k.Bring(w, profiles, w.changed)
			w.changed = nil
			got, want := kept.Schedule(pending), NewSnapshotFor(w, profiles).Schedule(pending)
			apart := NewSnapshotFor(w, profiles)
			apart.groups.keys.apart, apart.groups.keys.fresh[""] = true, true
			byAll := apart.Schedule(pending)
			if rapid.IntRange(0, 9).Draw(rt, "panic") > 0 {
				k.Done()
			}
			for i := range want {
				if a, b := decisionText(got[i]), decisionText(want[i]); a != b {
					rt.Fatalf("the snapshot that was kept decides\n%s\na new one\n%s", a, b)
				}
				if a, b := decisionText(byAll[i]), decisionText(want[i]); a != b {
					rt.Fatalf("told apart by all labels, a pod gets\n%s\nby those that are read\n%s", a, b)
				}
			}
			w.follow(rt, got)
		}
	})
}

func decisionText(d Decision) string {
	out := fmt.Sprintf("%p %s on %q for %q: %s, unnominate %v", d.Pod, d.Pod.Name, d.Node, d.Nominated, d.Message, d.Unnominate)
	for _, v := range d.Victims {
		out += fmt.Sprintf(", without %p %s", v, v.Name)
	}
	for _, v := range d.Unnominated {
		out += fmt.Sprintf(", passed %p %s", v, v.Name)
	}
	return out
}

// follow writes what was decided, or something else, or nothing.
func (w *world) follow(rt *rapid.T, list []Decision) {
	now := metav1.NewTime(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	for _, d := range list {
		if rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
			continue
		}
		p := d.Pod.DeepCopy()
		p.Spec.NodeName, p.Status.NominatedNodeName = d.Node, d.Nominated
		w.put(p)
		for _, v := range d.Victims {
			v = v.DeepCopy()
			v.DeletionTimestamp = &now
			w.put(v)
		}
		for _, v := range d.Unnominated {
			v = v.DeepCopy()
			v.Status.NominatedNodeName = ""
			w.put(v)
		}
	}
}

func (w *world) node(rt *rapid.T, name string) {
	n := node(name, rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "cpu"), "4Gi", rapid.Int64Range(2, 6).Draw(rt, "room"))
	n.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"z1", "z2"}).Draw(rt, "zone")
	n.Spec.Unschedulable = rapid.IntRange(0, 7).Draw(rt, "cordon") == 0
	if rapid.IntRange(0, 3).Draw(rt, "image") == 0 {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"image"}, SizeBytes: 500 << 20}}
	}
	w.put(n)
}

// change changes something at random.
func (w *world) change(rt *rapid.T) {
	name := fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(rt, "node"))
	switch rapid.IntRange(0, 15).Draw(rt, "change") {
	case 15:
		key := object.Key{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("a%d", rapid.IntRange(0, 6).Draw(rt, "measured"))}
		w.usage[key] = object.Usage{Containers: map[string]corev1.ResourceList{"c": {"cpu": resource.MustParse(rapid.SampledFrom([]string{"0", "900m"}).Draw(rt, "uses"))}}}
	case 0:
		w.node(rt, name)
	case 1:
		w.remove(object.Key{Resource: "nodes", Name: name})
	case 2:
		if o, ok := w.Get(object.Key{Resource: "nodes", Name: name}); ok {
			n := o.(*corev1.Node).DeepCopy()
			n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
			w.put(n)
		}
	case 3:
		w.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "team")}}})
	case 4:
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "svc"}}
		svc.Spec.Selector = map[string]string{rapid.SampledFrom([]string{"app", "no", "own"}).Draw(rt, "selector"): "a"}
		w.put(svc)
	case 5:
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}
		rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "selector")}}
		w.put(rs)
	case 6:
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "guard"}}
		b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
		b.Status.DisruptionsAllowed = rapid.Int32Range(0, 2).Draw(rt, "allowed")
		w.put(b)
	case 7:
		mode := rapid.SampledFrom([]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod, corev1.ReadWriteMany}).Draw(rt, "mode")
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "claim", Annotations: map[string]string{bindCompleted: "yes"}}}
		claim.Spec.AccessModes, claim.Spec.VolumeName = []corev1.PersistentVolumeAccessMode{mode}, "volume"
		w.put(claim)
		w.put(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "volume"}})
	default:
		w.changePod(rt)
	}
}

func (w *world) changePod(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", ""}).Draw(rt, "owner")
	slot := rapid.IntRange(0, 6).Draw(rt, "slot")
	key := object.Key{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("%s%d", name, slot)}
	o, ok := w.Get(key)
	if !ok {
		w.newPod(rt, name, slot)
		return
	}
	p := o.(*corev1.Pod).DeepCopy()
	switch rapid.IntRange(0, 7).Draw(rt, "pod") {
	case 0:
		w.remove(key)
		return
	case 1:
		p.DeletionTimestamp = &metav1.Time{}
	case 2:
		p.Status.Phase = corev1.PodSucceeded
	case 3:
		p.Labels = map[string]string{"app": "b"}
	case 7:
		p.Labels = map[string]string{"app": "b", LabelGang: "g", LabelGangMin: "2"}
	case 4:
		at := metav1.NewTime(time.Unix(rapid.Int64Range(1, 3).Draw(rt, "started"), 0))
		p.Status.StartTime = &at
	case 5: // one that is placed by somebody else
		if p.Spec.NodeName == "" {
			p.Spec.NodeName = fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(rt, "elsewhere"))
		}
	case 6:
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: corev1.ResourceList{"cpu": resource.MustParse("800m")}}}
	}
	w.put(p)
}

func (w *world) newPod(rt *rapid.T, owner string, slot int) {
	p := pod(owner, slot, rapid.SampledFrom([]string{"", "300m", "700m"}).Draw(rt, "asks"), "")
	if owner == "" {
		p.Name = fmt.Sprint(slot)
	}
	w.uids++
	p.UID = types.UID(fmt.Sprint(w.uids))
	p.Spec.Containers[0].Image = "image"
	priority := rapid.Int32Range(0, 2).Draw(rt, "priority")
	p.Spec.Priority = &priority
	drawOthers(rt, p)
	if owner != "" && rapid.Bool().Draw(rt, "part") {
		p.Labels[labelPartOf], p.Labels[labelPart] = "shop", owner
	}
	if owner != "" && rapid.IntRange(0, 4).Draw(rt, "gang") == 0 {
		p.Labels[LabelGang], p.Labels[LabelGangMin] = "g", rapid.SampledFrom([]string{"2", "3"}).Draw(rt, "least")
		if rapid.Bool().Draw(rt, "together") {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{LabelGang: "g"}}}}}}
		}
	}
	if rapid.Bool().Draw(rt, "label of its own") {
		p.Labels = maps.Clone(p.Labels)
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels["own"] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "own")
	}
	even := corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule}
	switch rapid.IntRange(0, 7).Draw(rt, "more") {
	case 2:
		even.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"own": "a"}}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{even}
	case 3:
		even.LabelSelector, even.MatchLabelKeys = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}}, []string{"own"}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{even}
	case 0:
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}}}
	case 1:
		team := &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, NamespaceSelector: team, LabelSelector: &metav1.LabelSelector{}}}}}
	}
	w.put(p)
}
