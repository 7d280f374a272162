// Command controllers measures what the controllers cost, with everything that belongs to it: deciding, scheduling, encoding, raft's log of one
// member on disk, and its application.
//
//	go run ./bench/controllers -dir /var/tmp
//
// It runs the store and the sequencer in this process. Kubelets are played: what is bound becomes ready, what goes is gone, in requests of
// at most -batch pods. Five courses: a Deployment of 10,000 replicas made and rolled, 1,000 Deployments rolled at once, a drain of 100 of 1,000
// nodes, 20,000 pods that come to 5,000 nodes, and 150,000 pods on 5,000 nodes at rest. For each it prints the time, the processor's time of the whole process, the players' too, and
// how many revisions were written.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/bench/harness"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/internal/gcpace"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

func main() {
	dir := flag.String("dir", os.TempDir(), "where the store is put")
	batch := flag.Int("batch", 500, "how many pods' reports come in one request")
	only := flag.String("only", "", "one course: large, many, drain, burst or rest")
	profile := flag.String("cpuprofile", "", "a file for the processor's profile of what is measured last")
	flag.Parse()
	if err := run(*dir, *batch, *only, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "controllers:", err)
		os.Exit(1)
	}
}

// profiled writes what the processor did meanwhile into a file, if one is named.
func profiled(file string, do func() error) error {
	if file == "" {
		return do()
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	err = do()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}

func run(dir string, batch int, only, profile string) error {
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Println(machine)
	for _, c := range []struct {
		name string
		run  func(*rig) error
	}{{"large", large}, {"many", many}, {"drain", drain}, {"burst", burst}, {"rest", rest}} {
		if only != "" && only != c.name {
			continue
		}
		fmt.Println(c.name)
		if err := course(dir, batch, profile, c.run); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// course runs one course on a store of its own.
func course(dir string, batch int, profile string, play func(*rig) error) error {
	tmp, err := os.MkdirTemp(dir, "bench-controllers-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	r, err := open(tmp, batch)
	if err != nil {
		return err
	}
	defer r.close()
	r.profile = profile
	return play(r)
}

// rig is a store with a sequencer and the controllers.

type rig struct {
	store *raftstore.Store
	seq   *sequencer.Sequencer
	batch int
	stop  context.CancelFunc
	run   sync.WaitGroup
	ips   int
	heard time.Time // when the nodes' leases were renewed last
	// profile is the file for the processor's profile, if one is wanted.
	profile string
}

func open(dir string, batch int) (*rig, error) {
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Dir: filepath.Join(dir, "store"), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	services := netip.MustParsePrefix("10.96.0.0/16")
	set, err := controller.NewSet(controller.Config{ClusterID: "bench", ServiceRange: services, PodRange: netip.MustParsePrefix("10.0.0.0/8"), AdmitPod: admission.AdmitPod[controller.View], AdmitClaim: admission.AdmitClaim[controller.View]})
	if err != nil {
		return nil, err
	}
	seq, err := sequencer.New(sequencer.Config{Store: store, Settler: sequencer.Controllers{Set: set}, Ranges: admission.Ranges{Services: services}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{store: store, seq: seq, batch: batch, stop: cancel}
	r.run.Go(func() { _ = seq.Run(ctx) })
	r.run.Go(func() { gcpace.Run(ctx) }) // as the server does
	// The first thing that a leader's controllers make.
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, ok := r.view().Get(object.Key{Resource: "namespaces", Name: corev1.NamespaceNodeLease}); ok {
			return r, nil
		}
		if time.Since(began) > 30*time.Second {
			r.close()
			return nil, errors.New("no leader after 30 s")
		}
	}
}

func (r *rig) close() {
	r.stop()
	r.run.Wait()
	_ = r.store.Close()
}

func (r *rig) view() *cluster.View { return cluster.NewView(r.store.View()) }

func (r *rig) submit(ops ...sequencer.Op) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := r.seq.Submit(ctx, sequencer.Request{User: "bench", Ops: ops})
	return err
}

func op(v sequencer.Verb, o object.Object) sequencer.Op {
	return sequencer.Op{Verb: v, Key: object.KeyOf(o), Object: o}
}

// in submits operations, so many a request.
func (r *rig) in(ops []sequencer.Op) error {
	for len(ops) > 0 {
		n := min(r.batch, len(ops))
		if err := r.submit(ops[:n]...); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// nodes makes ready nodes that are heard of for the whole course.
func (r *rig) nodes(n int) error {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110")}
	ops := []sequencer.Op{op(sequencer.Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "d"}})}
	later := metav1.NewMicroTime(time.Now())
	for i := range n {
		name, seconds := fmt.Sprintf("n%04d", i), int32(40)
		ops = append(ops, op(sequencer.Create, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}, Status: corev1.NodeStatus{Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}),
			op(sequencer.Create, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
				Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, RenewTime: &later, LeaseDurationSeconds: &seconds}}))
	}
	r.heard = time.Now()
	return r.in(ops)
}

// keepAlive renews the leases before the nodes count as lost.
func (r *rig) keepAlive() error {
	if time.Since(r.heard) < 15*time.Second {
		return nil
	}
	return r.renew()
}

// renew renews all nodes' leases, which the leader keeps in memory.
func (r *rig) renew() error {
	var ops []sequencer.Op
	now := metav1.NewMicroTime(time.Now())
	for o := range r.view().List("leases", corev1.NamespaceNodeLease) {
		l := object.Copy(o).(*coordinationv1.Lease)
		l.Spec.RenewTime = &now
		ops = append(ops, op(sequencer.Update, l))
	}
	for _, o := range ops {
		if err := r.submit(o); err != nil {
			return err
		}
	}
	r.heard = time.Now()
	return nil
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example/web:1",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")}}}}}},
	}}
	admission.Default(d)
	return d
}

// roll gives Deployments another image in one request.
func (r *rig) roll(names ...string) error {
	var ops []sequencer.Op
	for _, name := range names {
		o, ok := r.view().Get(object.Key{Resource: "deployments", Namespace: "d", Name: name})
		if !ok {
			return fmt.Errorf("there is no Deployment %s", name)
		}
		d := object.Copy(o).(*appsv1.Deployment)
		d.Spec.Template.Spec.Containers[0].Image = "example/web:2"
		ops = append(ops, op(sequencer.Update, d))
	}
	return r.submit(ops...)
}

// kubelets play until every pod of the namespace is ready and none goes, and there are n. A course that does not move for a minute has failed.
func (r *rig) kubelets(n int) error {
	moved := time.Now()
	for time.Since(moved) < time.Minute {
		if err := r.keepAlive(); err != nil {
			return err
		}
		var ops []sequencer.Op
		ready, all := 0, 0
		zero := int64(0)
		for o := range r.view().List("pods", "d") {
			p := o.(*corev1.Pod)
			all++
			switch {
			case p.DeletionTimestamp != nil:
				ops = append(ops, sequencer.Op{Verb: sequencer.Delete, Key: object.KeyOf(p), UID: string(p.UID), GracePeriodSeconds: &zero})
			case p.Status.Phase == corev1.PodRunning:
				ready++
			case p.Spec.NodeName != "":
				ops = append(ops, op(sequencer.UpdateStatus, r.started(p)))
			}
		}
		if ready == n && all == n {
			return nil
		}
		if len(ops) > 0 {
			moved = time.Now()
		}
		if err := r.in(ops); err != nil {
			return err
		}
	}
	return fmt.Errorf("nothing moves for a minute, and not all of %d pods are ready", n)
}

// started is a pod as its kubelet reports it.
func (r *rig) started(p *corev1.Pod) *corev1.Pod {
	r.ips++
	c := object.Copy(p)
	now := metav1.Now()
	ip := fmt.Sprintf("10.%d.%d.%d", r.ips>>16&255, r.ips>>8&255, r.ips&255)
	c.Status.Phase, c.Status.PodIP, c.Status.PodIPs, c.Status.StartTime = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}, &now
	for _, t := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return c
}

// measure prints what something cost.
func (r *rig) measure(what string, do func() error) error {
	rev, cpu, began := r.view().Rev(), cpuTime(), time.Now()
	if err := profiled(r.profile, do); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Printf("  %-62s %9.1f ms, %9.1f ms of CPU, %7d revisions\n", what, float64(time.Since(began).Microseconds())/1e3, float64((cpuTime()-cpu).Microseconds())/1e3, r.view().Rev()-rev)
	return nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory prints the heap that is in use.
func memory() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("  heap in use %d MB\n", m.HeapInuse>>20)
}
