package sequencer

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// simulation is a whole cluster in one process: the real store, sequencer, controllers and scheduler, with nodes that are played.
type simulation struct {
	*rig
	t       *testing.T
	random  *rand.Rand
	storage *raftstore.Storage
	change  func(*Config)
	nodes   int
	apps    []string
	// dead are the nodes whose machines are off.
	dead map[string]bool
	// homes are what is known of pods by their UID.
	homes map[types.UID]*home
	steps int
	acts  map[string]int
	began time.Time
}

// home is a pod's node, and the step in which its UID was seen last.
type home struct {
	node string
	step int
}

const simulatedZones = 4

// figure reads one of the simulation's sizes, which `make soak` sets.
func figure(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestSimulation: a cluster whose applications grow, shrink, roll, come and go, and whose nodes, zones and leaders are lost and come back. At each
// step no node has more than it offers, no anti-affinity is broken, no pod moves, no UID comes twice, no application has more pods than it may, and
// lost nodes are emptied at their pace. When all is well again every application has what it wants, and then nothing is written any more.
//
// SIM_NODES, SIM_PODS, SIM_ROUNDS and SIM_SEED are its size and its choices.
func TestSimulation(t *testing.T) {
	seed := uint64(figure("SIM_SEED", int(rand.Uint32())))
	t.Logf("SIM_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		set, err := controller.NewSet(controller.Config{ClusterID: "simulation", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.0.0.0/8")})
		if err != nil {
			t.Fatal(err)
		}
		s := &simulation{t: t, random: rand.New(rand.NewPCG(seed, 1)), storage: raftstore.MemoryStorage(), nodes: figure("SIM_NODES", 1000), change: func(c *Config) { c.Settler = Controllers{set} },
			dead: map[string]bool{}, homes: map[types.UID]*home{}, acts: map[string]int{}, began: time.Now()}
		s.rig = newRig(t, s.storage, s.change)
		s.begin(figure("SIM_PODS", 4000))
		rounds := figure("SIM_ROUNDS", 8)
		for round := range rounds {
			s.progress("round %d of %d", round+1, rounds)
			s.act("churn", "churn", "churn", "lose a node", "return a node", "cordon", "remove a node")
			switch round % 5 {
			case 1:
				s.act("lose a zone")
			case 2:
				s.act("change the leader")
			case 4:
				s.act("return all")
			}
			s.pass(time.Duration(1+s.random.IntN(4)) * 45 * time.Second)
		}
		s.act("return all")
		s.progress("all come back")
		s.rest()
		t.Logf("%d pods on %d nodes, revision %d, acts %v", len(s.homes), s.nodes, s.store.View().Rev(), s.acts)
		s.stop()
	})
}

// progress tells how far it is: its time is not ours, so what the process has used of the processors is said besides.
func (s *simulation) progress(format string, args ...any) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		s.t.Fatal(err)
	}
	waiting := 0
	for range s.view().Unbound() {
		waiting++
	}
	s.t.Logf("%s: %s of its time, %.0f s of processor time, revision %d, %d machines are off, %d pods wait", fmt.Sprintf(format, args...), time.Since(s.began),
		time.Duration(r.Utime.Nano()+r.Stime.Nano()).Seconds(), s.store.View().Rev(), len(s.dead), waiting)
}

// begin makes nodes, three services, and applications of 50 pods.
func (s *simulation) begin(pods int) {
	for i := range s.nodes {
		s.dead[nodeName(i)] = true
	}
	s.act("return all")
	per := min(50, s.nodes/2)
	for i := range pods / per {
		s.apps = append(s.apps, fmt.Sprintf("app%04d", i))
		s.must(write(Create, s.app(i, int32(per), 1)))
	}
	for _, app := range s.apps[:min(3, len(s.apps))] {
		s.must(write(Create, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: app},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80}}, Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityNone}}))
	}
	s.progress("%d pods in %d applications are made", pods, len(s.apps))
	s.pass(time.Minute)
}

func nodeName(i int) string { return fmt.Sprintf("n%04d", i) }

// app is an application: of four, one wants its pods on different nodes, one spreads them over zones, one is of a high priority.
func (s *simulation) app(i int, replicas int32, version int) *appsv1.Deployment {
	d := deployment(s.apps[i], replicas)
	spec := &d.Spec.Template.Spec
	spec.Containers[0].Image = fmt.Sprintf("example/web:%d", version)
	own := &metav1.LabelSelector{MatchLabels: d.Spec.Selector.MatchLabels}
	switch i % 4 {
	case 1:
		spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: own}}}}
	case 2:
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 2, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: own}}
	case 3:
		spec.PriorityClassName = "system-cluster-critical"
	}
	return d
}

func (s *simulation) view() *cluster.View { return cluster.NewView(s.store.View()) }

// act does things that happen to clusters.
func (s *simulation) act(what ...string) {
	for _, w := range what {
		s.acts[w]++
		name := nodeName(s.random.IntN(s.nodes))
		switch w {
		case "churn":
			s.churn()
		case "lose a node":
			s.dead[name] = true
		case "lose a zone":
			zone := s.random.IntN(simulatedZones)
			for i := zone; i < s.nodes; i += simulatedZones {
				s.dead[nodeName(i)] = true
			}
		case "return a node":
			s.revive(slices.Sorted(maps.Keys(s.dead))[:min(1, len(s.dead))])
		case "return all":
			s.revive(slices.Sorted(maps.Keys(s.dead)))
		case "cordon":
			if o, ok := s.view().Get(object.Key{Resource: "nodes", Name: name}); ok {
				n := object.Copy(o).(*corev1.Node)
				n.Spec.Unschedulable = !n.Spec.Unschedulable
				s.must(write(Update, n))
			}
		case "remove a node":
			if _, ok := s.view().Get(object.Key{Resource: "nodes", Name: name}); ok {
				s.dead[name] = true
				s.must(Op{Verb: Delete, Key: object.Key{Resource: "nodes", Name: name}})
			}
		case "change the leader":
			s.stop()
			s.rig = newRig(s.t, s.storage, s.change)
		}
	}
}

// churn makes an application grow, shrink, roll, go, or come back.
func (s *simulation) churn() {
	i := s.random.IntN(len(s.apps))
	key := object.Key{Resource: "deployments", Namespace: "d", Name: s.apps[i]}
	d := s.app(i, int32(s.random.IntN(min(90, s.nodes/2))), 1+s.random.IntN(3))
	switch _, there := s.view().Get(key); {
	case !there:
		s.must(write(Create, d))
	case s.random.IntN(5) == 0:
		s.must(Op{Verb: Delete, Key: key})
	default:
		s.must(write(Update, d))
	}
}

// revive switches machines on again; nodes are made anew if they were removed.
func (s *simulation) revive(names []string) {
	v := s.view()
	var ops []Op
	for _, name := range names {
		delete(s.dead, name)
		if _, ok := v.Get(object.Key{Resource: "nodes", Name: name}); !ok {
			i, _ := strconv.Atoi(name[1:])
			room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("60")}
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint("z", i%simulatedZones)}}}
			n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
			ops = append(ops, write(Create, n))
		}
		if _, ok := v.Get(object.Key{Resource: "leases", Namespace: corev1.NamespaceNodeLease, Name: name}); !ok {
			now, seconds := metav1.NowMicro(), int32(40)
			ops = append(ops, write(Create, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
				Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, RenewTime: &now, LeaseDurationSeconds: &seconds}}))
		}
	}
	s.together(ops)
}

// together sends requests of one operation each, as many machines do, and waits for their answers.
func (s *simulation) together(ops []Op) {
	s.t.Helper()
	for list := range slices.Chunk(ops, 500) {
		faults := make([]error, len(list))
		var wg sync.WaitGroup
		for i := range list {
			wg.Go(func() { _, faults[i] = s.submit(list[i]) })
		}
		wg.Wait()
		if err := errors.Join(faults...); err != nil {
			s.t.Fatal(err)
		}
	}
}

// pass lets time pass. The machines that are on renew their leases and play their pods, and all is checked.
func (s *simulation) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.renew()
		for more := true; more; {
			more = s.kubelets() > 0
		}
		s.check()
		time.Sleep(15 * time.Second)
	}
}

func (s *simulation) renew() {
	now := metav1.NowMicro()
	var ops []Op
	for o := range s.view().List("leases", corev1.NamespaceNodeLease) {
		if !s.dead[o.GetName()] {
			l := object.Copy(o).(*coordinationv1.Lease)
			l.Spec.RenewTime = &now
			ops = append(ops, write(Update, l))
		}
	}
	s.together(ops)
}

// kubelets report what became of the pods of machines that are on, and return how much there was to report.
func (s *simulation) kubelets() int {
	var ops []Op
	zero := int64(0)
	for o := range s.view().List("pods", "d") {
		p := o.(*corev1.Pod)
		switch {
		case p.Spec.NodeName == "" || s.dead[p.Spec.NodeName]:
		case p.DeletionTimestamp != nil:
			ops = append(ops, Op{Verb: Delete, Key: object.KeyOf(p), UID: string(p.UID), GracePeriodSeconds: &zero})
		case p.Status.Phase != corev1.PodRunning:
			c := object.Copy(p)
			c.Status.Phase, c.Status.PodIP = corev1.PodRunning, "10.1.2.3"
			c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			ops = append(ops, write(UpdateStatus, c))
		}
	}
	for batch := range slices.Chunk(ops, 500) {
		s.must(batch...)
	}
	return len(ops)
}

// check holds the state against what must always be.
func (s *simulation) check() {
	s.t.Helper()
	v := s.view()
	type load struct{ used, count int64 }
	type pair struct{ node, app string }
	nodes, apart, active := map[string]*load{}, map[pair]bool{}, map[string]int32{}
	s.steps++
	for o := range v.List("pods", "") {
		p := o.(*corev1.Pod)
		node, app := p.Spec.NodeName, p.Labels["app"]
		at := s.homes[p.UID]
		switch {
		case at == nil:
			at = &home{}
			s.homes[p.UID] = at
		case at.step == s.steps:
			s.t.Errorf("%s has a UID that another pod has", p.Name)
		case at.node != "" && at.node != node:
			s.t.Errorf("%s moved from %s to %s", p.Name, at.node, node)
		}
		if at.step = s.steps; p.DeletionTimestamp == nil {
			active[app]++
		}
		if node == "" {
			continue
		}
		at.node = node
		n := nodes[node]
		if n == nil {
			n = &load{}
			nodes[node] = n
		}
		n.used += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		n.count++
		if p.Spec.Affinity == nil {
			continue
		}
		if apart[pair{node, app}] {
			s.t.Errorf("two pods of %s are on %s", app, node)
		}
		apart[pair{node, app}] = true
	}
	emptied := map[string][]time.Time{}
	for o := range v.List("nodes", "") {
		n := o.(*corev1.Node)
		if has := nodes[n.Name]; has != nil && (has.used > n.Status.Allocatable.Cpu().MilliValue() || has.count > n.Status.Allocatable.Pods().Value()) {
			s.t.Errorf("%s has %d pods that ask for %dm", n.Name, has.count, has.used)
		}
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeUnreachable && taint.Effect == corev1.TaintEffectNoExecute {
				zone := n.Labels[corev1.LabelTopologyZone]
				emptied[zone] = append(emptied[zone], taint.TimeAdded.Time)
			}
		}
	}
	for zone, list := range emptied {
		slices.SortFunc(list, time.Time.Compare)
		for i := range list[1:] {
			if list[i+1].Sub(list[i]) < 9*time.Second {
				s.t.Errorf("two nodes of zone %s were told to be emptied at %s and %s", zone, list[i], list[i+1])
			}
		}
	}
	for o := range v.List("deployments", "d") {
		d := o.(*appsv1.Deployment)
		if most := *d.Spec.Replicas + (*d.Spec.Replicas+3)/4; active[d.Name] > most && d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == *d.Spec.Replicas {
			s.t.Errorf("%s has %d pods, at most %d", d.Name, active[d.Name], most)
		}
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// rest waits until every application has what it wants, and then for a time in which nothing is written.
func (s *simulation) rest() {
	for o := range s.view().List("nodes", "") {
		if n := o.(*corev1.Node); n.Spec.Unschedulable {
			n = object.Copy(n)
			n.Spec.Unschedulable = false
			s.must(write(Update, n))
		}
	}
	var wanting []string
	for range 40 {
		s.pass(15 * time.Second)
		wanting = nil
		for o := range s.view().List("deployments", "d") {
			if d := o.(*appsv1.Deployment); d.Status.ReadyReplicas != *d.Spec.Replicas || d.Status.Replicas != *d.Spec.Replicas {
				wanting = append(wanting, fmt.Sprintf("%s %d of %d", d.Name, d.Status.ReadyReplicas, *d.Spec.Replicas))
			}
		}
		if len(wanting) == 0 {
			break
		}
	}
	if len(wanting) > 0 {
		s.t.Fatalf("ten minutes after all came back, %d applications want: %v", len(wanting), wanting)
	}
	s.pass(time.Minute)
	before := s.versions()
	s.pass(time.Minute)
	after := s.versions()
	for _, key := range slices.SortedFunc(maps.Keys(after), object.Key.Compare) {
		if before[key] != after[key] {
			s.t.Errorf("%s was written while nothing happened", key)
		}
	}
	if len(before) != len(after) {
		s.t.Errorf("%d objects became %d while nothing happened", len(before), len(after))
	}
}

// versions are those of all that the controllers keep, but for events, which go in time.
func (s *simulation) versions() map[object.Key]string {
	out, v := map[object.Key]string{}, s.view()
	for _, resource := range []string{"deployments", "endpoints", "endpointslices", "nodes", "pods", "replicasets"} {
		for o := range v.List(resource, "") {
			out[object.KeyOf(o)] = o.GetResourceVersion()
		}
	}
	return out
}
