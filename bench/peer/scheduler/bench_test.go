package scheduler

import (
	"context"
	"fmt"
	"math"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	ours "reconcile/scheduler"
)

// scenario makes the i-th pod of a load.
type scenario struct {
	name  string
	owned bool
	pod   func(p *corev1.Pod, i int)
}

func scenarios() []scenario {
	return []scenario{
		{name: "basic", pod: func(*corev1.Pod, int) {}},
		{name: "five sizes", pod: func(p *corev1.Pod, i int) {
			p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse([]string{"50m", "100m", "200m", "400m", "800m"}[i%5])
		}},
		{name: "distinct", pod: func(p *corev1.Pod, i int) {
			p.Spec.Containers[0].Resources.Requests["cpu"] = *resource.NewMilliQuantity(int64(50+i), resource.DecimalSI)
		}},
		{name: "owned", owned: true, pod: func(*corev1.Pod, int) {}},
		{name: "host anti-affinity", pod: func(p *corev1.Pod, _ int) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Labels["app"]}}}}}}
		}},
		{name: "zone spread", pod: func(p *corev1.Pod, _ int) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Labels["app"]}}}}
		}},
		{name: "affinity and taints", pod: func(p *corev1.Pod, _ int) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 10,
				Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: "In", Values: []string{"ssd"}}}}}}}}
			p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
		}},
	}
}

// load is the world of a scenario and the pods to be placed, 500 an application.
func load(s scenario, nodes, pods int) (*world, []*corev1.Pod) {
	w := &world{}
	for i := range nodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n" + strconv.Itoa(i)}}
		n.Labels = map[string]string{corev1.LabelHostname: n.Name, corev1.LabelTopologyZone: "z" + strconv.Itoa(i%3), "disk": []string{"ssd", "hdd"}[i%2]}
		n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("16"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if i%10 == 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
		}
		w.nodes = append(w.nodes, n)
	}
	w.others = append(w.others, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	var out []*corev1.Pod
	for i := range pods {
		app := "app" + strconv.Itoa(i/500)
		if s.owned && i%500 == 0 {
			rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "a", UID: types.UID(app)}}
			rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
			w.others = append(w.others, rs)
		}
		out = append(out, loadPod(s, app, i))
	}
	return w, out
}

func loadPod(s scenario, app string, i int) *corev1.Pod {
	name := "p" + strconv.Itoa(i)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "a", UID: types.UID(name), Labels: map[string]string{"app": app}}}
	if s.owned {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app, UID: types.UID(app), Controller: &yes}}
	}
	p.Spec.SchedulerName = corev1.DefaultSchedulerName
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "c:1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")}}}}
	s.pod(p, i)
	return p
}

// cpu is what the process has used of the processors.
func cpu(b testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// noBind notes where pods are bound, and tells nobody.
type noBind struct {
	mu    sync.Mutex
	where map[string]string
	done  chan struct{}
	want  int
}

func (*noBind) Name() string { return "NoBind" }

func (n *noBind) Bind(_ context.Context, _ fwk.CycleState, p *corev1.Pod, node string) *fwk.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.where[p.Name] = node; len(n.where) == n.want {
		close(n.done)
	}
	return nil
}

// kube places the pods by kube-scheduler: its queue, its cache, its default plugins, and a bind that does nothing.
func kube(b testing.TB, w *world, pods []*corev1.Pod) (time.Duration, map[string]string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := &noBind{where: map[string]string{}, done: make(chan struct{}), want: len(pods)}
	profile := defaultProfile(b)
	profile.Plugins.Bind = config.PluginSet{Enabled: []config.Plugin{{Name: "NoBind"}}, Disabled: []config.Plugin{{Name: "*"}}}
	client := fake.NewClientset()
	factory := scheduler.NewInformerFactory(client, 0)
	s, err := scheduler.New(ctx, client, factory, nil, func(string) events.EventRecorderLogger { return &events.FakeRecorder{} },
		scheduler.WithProfiles(*profile), scheduler.WithFrameworkOutOfTreeRegistry(frameworkruntime.Registry{
			"NoBind": func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) { return n, nil }}))
	if err != nil {
		b.Fatal(err)
	}
	p := &peer{factory: factory}
	for _, o := range w.others {
		if err := p.index(o.(runtime.Object)); err != nil {
			b.Fatal(err)
		}
	}
	for _, node := range w.nodes {
		s.Cache.AddNode(klog.Logger{}, node)
	}
	for _, q := range pods {
		s.SchedulingQueue.Add(ctx, q)
	}
	goruntime.GC()
	began := cpu(b)
	for range pods {
		s.ScheduleOne(ctx)
	}
	<-n.done
	return cpu(b) - began, n.where
}

// own places the pods by our scheduler. As kube-scheduler's cache, its snapshot has read the nodes before, as the sequencer's has: it is brought to
// the state with the pods. anew is what it takes with the nodes read first.
func own(b testing.TB, w *world, pods []*corev1.Pod) (spent, anew time.Duration, where map[string]string) {
	goruntime.GC()
	began := cpu(b)
	placed(b, ours.NewSnapshot(w).Schedule(pods))
	anew = cpu(b) - began
	bring := kept(w)
	goruntime.GC()
	began = cpu(b)
	where = placed(b, bring().Schedule(pods))
	return cpu(b) - began, anew, where
}

// kept is our snapshot of a world that it has read before.
func kept(w *world) func() *ours.Snapshot {
	var k ours.Kept
	profiles := ours.Profiles{corev1.DefaultSchedulerName: ours.DefaultProfile()}
	k.Bring(w, profiles, nil)
	k.Done()
	return func() *ours.Snapshot { return k.Bring(w, profiles, nil) }
}

func placed(b testing.TB, list []ours.Decision) map[string]string {
	where := make(map[string]string, len(list))
	for _, d := range list {
		if d.Node == "" {
			b.Fatalf("%s: %s", d.Pod.Name, d.Message)
		}
		where[d.Pod.Name] = d.Node
	}
	return where
}

// uneven is the standard deviation of the nodes' CPU in use, as a share, and the largest difference between two zones' pods of one
// application.
func uneven(w *world, pods []*corev1.Pod, where map[string]string) (deviation float64, skew int) {
	used := map[string]float64{}
	zones := map[string]map[string]int{}
	zone := map[string]string{}
	for _, n := range w.nodes {
		zone[n.Name] = n.Labels[corev1.LabelTopologyZone]
	}
	for _, p := range pods {
		q := p.Spec.Containers[0].Resources.Requests["cpu"]
		used[where[p.Name]] += float64(q.MilliValue()) / 16000
		if app := p.Labels["app"]; zones[app] == nil {
			zones[app] = map[string]int{"z0": 0, "z1": 0, "z2": 0}
		}
		zones[p.Labels["app"]][zone[where[p.Name]]]++
	}
	sum, square := 0.0, 0.0
	for _, n := range w.nodes {
		sum += used[n.Name]
		square += used[n.Name] * used[n.Name]
	}
	mean := sum / float64(len(w.nodes))
	for _, z := range zones {
		skew = max(skew, max(z["z0"], z["z1"], z["z2"])-min(z["z0"], z["z1"], z["z2"]))
	}
	return math.Sqrt(max(0, square/float64(len(w.nodes))-mean*mean)), skew
}

// benchPods is how many pods each scenario places.
func benchPods(b testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("BENCH_PODS"))
	if err != nil {
		return 1000
	}
	return n
}

// BenchmarkPlacement places the same pods by both, and tells the processor time a pod of each and how even the outcome is. What both know of the
// nodes before the pods come is not measured.
func BenchmarkPlacement(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		for _, s := range scenarios() {
			b.Run(fmt.Sprintf("%s/%d nodes", s.name, nodes), func(b *testing.B) {
				n := benchPods(b)
				w, pods := load(s, nodes, n)
				for range b.N {
					theirs, at := kube(b, w, pods)
					deviation, skew := uneven(w, pods, at)
					we, anew, on := own(b, w, pods)
					ourDeviation, ourSkew := uneven(w, pods, on)
					b.ReportMetric(float64(theirs.Microseconds())/float64(n), "kube-µs/pod")
					b.ReportMetric(float64(we.Microseconds())/float64(n), "ours-µs/pod")
					b.ReportMetric(float64(anew.Microseconds())/float64(n), "ours-read-anew-µs/pod")
					b.ReportMetric(float64(theirs)/float64(max(we, time.Microsecond)), "times-less")
					b.ReportMetric(deviation, "kube-cpu-sd")
					b.ReportMetric(ourDeviation, "ours-cpu-sd")
					b.ReportMetric(float64(skew), "kube-zone-skew")
					b.ReportMetric(float64(ourSkew), "ours-zone-skew")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkPreemption has pods of a high priority come to a full cluster. Of kube-scheduler only the search is measured, with its default number
// of candidates: filters, dry run and choice, not what it does to delete.
func BenchmarkPreemption(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			w, _ := load(scenario{pod: func(*corev1.Pod, int) {}}, nodes, 0)
			for i, n := range w.nodes {
				for k := range 4 {
					p := loadPod(scenario{pod: func(*corev1.Pod, int) {}}, "low", i*4+k)
					p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("4")
					p.Spec.NodeName = n.Name
					p.Status.StartTime = &metav1.Time{Time: time.Unix(int64(1_000_000+i*4+k), 0)}
					w.pods = append(w.pods, p)
				}
			}
			w.byNode = map[string][]*corev1.Pod{}
			for _, p := range w.pods {
				w.byNode[p.Spec.NodeName] = append(w.byNode[p.Spec.NodeName], p)
			}
			high := int32(100)
			var pods []*corev1.Pod
			for i := range 200 {
				p := loadPod(scenario{pod: func(*corev1.Pod, int) {}}, "high", 1_000_000+i)
				p.Spec.Priority = &high
				p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("4")
				pods = append(pods, p)
			}
			for range b.N {
				theirs := kubePreempt(b, w, pods[:20])
				bring := kept(w)
				goruntime.GC()
				began := cpu(b)
				decisions := bring().Schedule(pods)
				we := cpu(b) - began
				for _, d := range decisions {
					if len(d.Victims) != 1 {
						b.Fatalf("%s: %d victims: %s", d.Pod.Name, len(d.Victims), d.Message)
					}
				}
				perPod := float64(theirs.Microseconds()) / 20
				b.ReportMetric(perPod, "kube-µs/pod")
				b.ReportMetric(float64(we.Microseconds())/float64(len(pods)), "ours-µs/pod")
				b.ReportMetric(perPod*float64(len(pods))/float64(we.Microseconds()), "times-less")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// kubePreempt is the processor time of kube-scheduler's search for each pod.
func kubePreempt(b testing.TB, w *world, pods []*corev1.Pod) time.Duration {
	p := newPeer(b, w, defaultProfile(b))
	defer p.cancel()
	pl := p.preempting(b)
	infos := p.lister.NodeInfos()
	goruntime.GC()
	began := cpu(b)
	for _, pod := range pods {
		_, a := p.try(b, pod)
		nodes, err := a.diagnosis.NodeToStatus.NodesForStatusCode(infos, fwk.Unschedulable)
		if err != nil {
			b.Fatal(err)
		}
		wanted := max(int32(len(nodes)/10), min(100, int32(len(nodes))))
		candidates, _, err := pl.Evaluator.DryRunPreemption(p.ctx, a.state, pod, nodes, nil, 0, wanted)
		if err != nil || pl.Evaluator.SelectCandidate(p.ctx, candidates) == nil {
			b.Fatalf("no candidate: %v", err)
		}
	}
	return cpu(b) - began
}
