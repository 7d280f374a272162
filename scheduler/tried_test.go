package scheduler

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestWhatIsTriedAgain holds which of the pods that wait are tried after which change: those that it may help.
func TestWhatIsTriedAgain(t *testing.T) {
	claimed := func(p *corev1.Pod, claim string) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	}
	waits := func(name, cpu string, change func(*corev1.Pod)) *corev1.Pod {
		p := running(name, "", cpu, 0, 0)
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
		if change != nil {
			change(p)
		}
		return p
	}
	app := func(name string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}}}
	}
	list := []*corev1.Pod{
		waits("large", "3", nil),
		waits("small", "1", nil),
		waits("ssd", "500m", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
		waits("bears", "1", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{"disk": "hdd"}
			p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
		}),
		waits("urgent", "1", func(p *corev1.Pod) { five := int32(5); p.Spec.Priority = &five }),
		waits("friend", "10m", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: app("star")}}
		}),
		waits("even", "10m", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "even"}}}}
		}),
		waits("stores", "10m", func(p *corev1.Pod) { claimed(p, "c") }),
		waits("owns", "10m", func(p *corev1.Pod) { claimed(p, "d") }),
		waits("gang1", "500m", func(p *corev1.Pod) { p.Labels = map[string]string{LabelGang: "g", LabelGangMin: "2"} }),
	}
	bound := func(name, on, cpu string, change func(*corev1.Pod)) *corev1.Pod {
		p := running(name, on, cpu, 9, 0)
		if change != nil {
			change(p)
		}
		return p
	}
	n1 := func(change func(*corev1.Node)) *corev1.Node {
		n := node("n1", "2", "8Gi", 20)
		if change != nil {
			change(n)
		}
		return n
	}
	gone := func(name string) func(*world) {
		return func(w *world) { w.remove(object.Key{Resource: "pods", Namespace: "default", Name: name}) }
	}
	for _, tc := range []struct {
		name   string
		change func(*world)
		tried  string
	}{
		{"nothing", func(*world) {}, ""},
		{"a heartbeat", func(w *world) {
			w.put(n1(func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Unix(1, 0) }))
		}, ""},
		{"a label that nobody asks for", func(w *world) {
			w.put(bound("x1", "n1", "1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }))
		}, ""},
		{"a label that somebody asks for, and a gang looks at the room that is left", func(w *world) {
			w.put(bound("x1", "n1", "1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "star"} }))
		}, "friend gang1"},
		{"a pod that counts for a constraint", func(w *world) {
			w.put(bound("x1", "n1", "1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "even"} }))
		}, "even"},
		{"a pod begins to go", func(w *world) {
			w.put(bound("x1", "n1", "1", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))
		}, ""},
		{"a small one ends", gone("x2"), "gang1 owns"},
		{"one ends, and there is room for some", gone("x1"), "urgent gang1 owns"},
		{"room on a tainted node", gone("x3"), "bears gang1"},
		{"one with a claim that others use ends", gone("x4"), "gang1 owns"},
		{"the taint goes", func(w *world) { n := node("n2", "1", "8Gi", 20); n.Labels["disk"] = "hdd"; w.put(n) }, "gang1"},
		{"a node is labelled", func(w *world) { w.put(n1(func(n *corev1.Node) { n.Labels["disk"] = "ssd" })) }, "gang1 owns"},
		{"a node grows", func(w *world) {
			w.put(n1(func(n *corev1.Node) {
				n.Status.Allocatable["cpu"] = resource.MustParse("2500m")
				n.Labels["disk"] = "ssd"
			}))
		}, "gang1 owns ssd"},
		{"a node is in a rack", func(w *world) { w.put(n1(func(n *corev1.Node) { n.Labels["rack"] = "r1" })) }, "even gang1 owns"},
		{"a large node comes", func(w *world) { w.put(node("n9", "16", "8Gi", 20)) }, "urgent even friend gang1 large owns small"},
		{"a node goes", func(w *world) { w.remove(object.Key{Resource: "nodes", Name: "n2"}) }, "gang1"},
		{"one becomes less important", func(w *world) {
			w.put(bound("x1", "n1", "1", func(p *corev1.Pod) { three := int32(3); p.Spec.Priority = &three }))
		}, "urgent gang1 owns"},
		{"a claim comes", func(w *world) {
			w.put(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}})
		}, "stores"},
		{"another claim comes", func(w *world) {
			w.put(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}})
		}, ""},
		{"a volume comes", func(w *world) { w.put(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}) }, "owns stores"},
		{"a budget changes", func(w *world) {
			w.changed = append(w.changed, object.Key{Resource: "poddisruptionbudgets", Namespace: "default", Name: "b"})
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{objects: map[object.Key]object.Object{}}
			tainted := node("n2", "1", "8Gi", 20)
			tainted.Labels["disk"] = "hdd"
			tainted.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
			once := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d", Annotations: map[string]string{bindCompleted: "yes"}}}
			once.Spec.AccessModes, once.Spec.VolumeName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, "volume"
			for _, o := range []object.Object{n1(nil), tainted, once, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "volume"}}, bound("x1", "n1", "1", nil), bound("x2", "n1", "500m", nil),
				bound("x3", "n2", "1", nil), bound("x4", "n1", "450m", func(p *corev1.Pod) { claimed(p, "d") })} {
				w.put(o)
			}
			for _, p := range list {
				w.put(p)
			}
			profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
			var k Kept
			for _, d := range k.Bring(w, profiles, nil).ScheduleWaiting(nil) {
				if d.Node != "" || d.Nominated != "" {
					t.Fatalf("%s does not wait: %+v", d.Pod.Name, d)
				}
			}
			k.Done()
			w.changed = nil
			tc.change(w)
			var tried []string
			for _, d := range k.Bring(w, profiles, w.changed).ScheduleWaiting(nil) {
				tried = append(tried, d.Pod.Name)
			}
			if got := strings.Join(tried, " "); got != tc.tried {
				t.Errorf("tried %q, want %q", got, tc.tried)
			}
		})
	}
}
