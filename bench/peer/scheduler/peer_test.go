package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

func TestMain(m *testing.M) {
	klog.SetLogger(klog.Logger{})
	metrics.Register()
	m.Run()
}

// peer is the framework of kube-scheduler's default profile over a world.
type peer struct {
	framework.Framework
	cfg     *config.KubeSchedulerProfile
	lister  *lister
	order   nominated
	w       *world
	cancel  context.CancelFunc
	ctx     context.Context
	factory informers.SharedInformerFactory
}

// lister lets the snapshot be replaced under the framework.
type lister struct{ fwk.SharedLister }

// nominated are the pods that wait for nodes, by node.
type nominated map[string][]fwk.PodInfo

func (n nominated) AddNominatedPod(klog.Logger, fwk.PodInfo, *fwk.NominatingInfo) {}
func (n nominated) DeleteNominatedPodIfExists(*corev1.Pod)                        {}
func (n nominated) UpdateNominatedPod(klog.Logger, *corev1.Pod, fwk.PodInfo)      {}
func (n nominated) NominatedPodsForNode(node string) []fwk.PodInfo                { return n[node] }

// defaultProfile is kube-scheduler's, without the plugin for devices, which needs a manager of them.
func defaultProfile(t testing.TB) *config.KubeSchedulerProfile {
	cfg, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	p := &cfg.Profiles[0]
	p.Plugins.MultiPoint.Enabled = slices.DeleteFunc(p.Plugins.MultiPoint.Enabled, func(p config.Plugin) bool { return p.Name == "DynamicResources" })
	return p
}

func newPeer(t testing.TB, w *world, profile *config.KubeSchedulerProfile) *peer {
	p := &peer{w: w, lister: &lister{}, order: nominated{}, cfg: profile}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var objects []runtime.Object
	for _, o := range w.others {
		objects = append(objects, o.(runtime.Object))
	}
	client := fake.NewClientset(objects...)
	if !w.storage {
		client = fake.NewClientset()
	}
	p.factory = informers.NewSharedInformerFactory(client, 0)
	for _, q := range w.waiting {
		info, err := framework.NewPodInfo(q)
		if err != nil {
			t.Fatal(err)
		}
		p.order[q.Status.NominatedNodeName] = append(p.order[q.Status.NominatedNodeName], info)
	}
	p.refresh()
	var err error
	p.Framework, err = frameworkruntime.NewFramework(p.ctx, plugins.NewInTreeRegistry(), profile,
		frameworkruntime.WithClientSet(client), frameworkruntime.WithInformerFactory(p.factory), frameworkruntime.WithSnapshotSharedLister(p.lister),
		frameworkruntime.WithPodNominator(p.order), frameworkruntime.WithParallelism(1),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(p.factory.Storage().V1().CSINodes().Lister())))
	if err != nil {
		t.Fatal(err)
	}
	if w.storage {
		p.factory.Core().V1().Namespaces().Informer()
		p.factory.Start(p.ctx.Done())
		p.factory.WaitForCacheSync(p.ctx.Done())
		return p
	}
	for _, o := range w.others {
		if err := p.index(o.(runtime.Object)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// index puts an object where listers find it, without a watch, which would cost more than all the rest.
func (p *peer) index(o runtime.Object) error {
	f := p.factory
	switch o.GetObjectKind(); fmt.Sprintf("%T", o) {
	case "*v1.Namespace":
		return f.Core().V1().Namespaces().Informer().GetIndexer().Add(o)
	case "*v1.Service":
		return f.Core().V1().Services().Informer().GetIndexer().Add(o)
	case "*v1.Pod":
		return f.Core().V1().Pods().Informer().GetIndexer().Add(o)
	case "*v1.PodDisruptionBudget":
		return f.Policy().V1().PodDisruptionBudgets().Informer().GetIndexer().Add(o)
	case "*v1.ReplicaSet":
		return f.Apps().V1().ReplicaSets().Informer().GetIndexer().Add(o)
	}
	return fmt.Errorf("no index for a %T", o)
}

// refresh has the framework see the world as it is now.
func (p *peer) refresh() { p.lister.SharedLister = cache.NewSnapshot(p.w.pods, p.w.nodes) }

// answer is what is said of a pod on a node.
type answer struct {
	plugin  string // that refuses it; empty if none does
	reasons string
	final   bool             // no preemption would help
	scores  map[string]int64 // weighted, by plugin
}

func (a answer) String() string {
	if a.plugin != "" {
		return fmt.Sprintf("%s: %s (final %v)", a.plugin, a.reasons, a.final)
	}
	return fmt.Sprint(a.scores)
}

// attempt is what came out of a try to place a pod, as far as preemption asks for it.
type attempt struct {
	state     fwk.CycleState
	diagnosis framework.Diagnosis
	fit       bool
}

// answers judges a pod on every node, in the order of the world's nodes.
func (p *peer) answers(t testing.TB, pod *corev1.Pod) []answer {
	out, _ := p.try(t, pod)
	return out
}

func (p *peer) try(t testing.TB, pod *corev1.Pod) ([]answer, attempt) {
	out := make([]answer, len(p.w.nodes))
	state := framework.NewCycleState()
	a := attempt{state: state, diagnosis: framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}}
	only, status, narrowing := p.RunPreFilterPlugins(p.ctx, state, pod)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			t.Fatalf("%s: %v", pod.Name, status.AsError())
		}
		for i := range out {
			out[i] = refused(status)
		}
		a.diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		a.diagnosis.PreFilterMsg = status.Message()
		return out, a
	}
	var fit []fwk.NodeInfo
	var at []int
	for i, n := range p.w.nodes {
		if !only.AllNodes() && !only.NodeNames.Has(n.Name) {
			names := narrowing.UnsortedList()
			slices.Sort(names)
			a.diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", names)))
			out[i] = answer{plugin: strings.Join(names, " "), reasons: fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", names), final: true}
			continue
		}
		info, err := p.lister.NodeInfos().Get(n.Name)
		if err != nil {
			t.Fatal(err)
		}
		if s := p.RunFilterPluginsWithNominatedPods(p.ctx, state, pod, info); !s.IsSuccess() {
			if !s.IsRejected() {
				t.Fatalf("%s on %s: %v", pod.Name, n.Name, s.AsError())
			}
			out[i] = refused(s)
			a.diagnosis.NodeToStatus.Set(n.Name, s)
			continue
		}
		fit, at = append(fit, info), append(at, i)
	}
	if a.fit = len(fit) > 0; !a.fit {
		return out, a
	}
	if s := p.RunPreScorePlugins(p.ctx, state, pod, fit); !s.IsSuccess() {
		t.Fatal(s.AsError())
	}
	scores, s := p.RunScorePlugins(p.ctx, state, pod, fit)
	if !s.IsSuccess() {
		t.Fatal(s.AsError())
	}
	for k, list := range scores {
		out[at[k]].scores = map[string]int64{}
		for _, one := range list.Scores {
			out[at[k]].scores[one.Name] = one.Score
		}
	}
	return out, a
}

func refused(s *fwk.Status) answer {
	reasons := slices.Clone(s.Reasons())
	slices.Sort(reasons)
	return answer{plugin: s.Plugin(), reasons: strings.Join(reasons, ", "), final: s.Code() == fwk.UnschedulableAndUnresolvable}
}
