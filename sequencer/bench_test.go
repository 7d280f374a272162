package sequencer

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// newBenchRig is a server with its log on disk, the real controllers, and nodes that are ready.
func newBenchRig(b *testing.B, nodes int) *rig {
	b.Helper()
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Dir: b.TempDir(), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 100 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	services := netip.MustParsePrefix("10.96.0.0/16")
	set, err := controller.NewSet(controller.Config{ClusterID: "bench", ServiceRange: services, PodRange: netip.MustParsePrefix("10.128.0.0/9")})
	if err != nil {
		b.Fatal(err)
	}
	seq, err := New(Config{Store: store, Settler: Controllers{set}, Ranges: admission.Ranges{Services: services}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = seq.Run(ctx) })
	r := &rig{t: b, store: store, seq: seq, stop: sync.OnceFunc(func() { cancel(); wg.Wait(); store.Close() })}
	b.Cleanup(r.stop)
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("500")}
	r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "d"}}))
	for i := range nodes {
		name, now, seconds := fmt.Sprintf("n%02d", i), metav1.NowMicro(), int32(40)
		r.must(write(Create, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}))
		r.must(write(Create, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, RenewTime: &now, LeaseDurationSeconds: &seconds}}))
	}
	return r
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

func benchmarkDeployment(b *testing.B, replicas int32) {
	r := newBenchRig(b, 10)
	for i := 0; b.Loop(); i++ {
		d := deployment(fmt.Sprintf("web%d", i), replicas)
		res := r.must(write(Create, d))
		if n := int32(len(res.Outcome.Settled.Placements)); n != replicas {
			b.Fatalf("%d pods placed of %d", n, replicas)
		}
		b.StopTimer()
		r.must(Op{Verb: Delete, Key: object.KeyOf(d)})
		r.vanish(b)
		b.StartTimer()
	}
}

// vanish does the kubelets' part of the deletion of all pods, and waits until there are none.
func (r *rig) vanish(b *testing.B) {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		var ops []Op
		left := 0
		zero := int64(0)
		for p := range cluster.NewView(r.store.View()).List("pods", "") {
			left++
			if p.GetDeletionTimestamp() != nil {
				ops = append(ops, Op{Verb: Delete, Key: object.KeyOf(p), GracePeriodSeconds: &zero})
			}
		}
		if left == 0 {
			return
		}
		if len(ops) > 0 {
			r.must(ops...)
		}
	}
	b.Fatal("pods are left")
}

// BenchmarkCommit1000Pods is a Deployment of 1,000 replicas on ten nodes until all pods are bound and on disk: one request.
func BenchmarkCommit1000Pods(b *testing.B) { benchmarkDeployment(b, 1000) }

// BenchmarkCommit3Pods is the same with 3 replicas.
func BenchmarkCommit3Pods(b *testing.B) { benchmarkDeployment(b, 3) }

// BenchmarkUpdateStatus is one pod's status after the other, while 1,000 pods are there.
func BenchmarkUpdateStatus(b *testing.B) {
	r := newBenchRig(b, 10)
	r.must(write(Create, deployment("web", 1000)))
	var pods []*corev1.Pod
	for o := range cluster.NewView(r.store.View()).List("pods", "d") {
		pods = append(pods, o.(*corev1.Pod))
	}
	for i := 0; b.Loop(); i++ {
		p := object.Copy(pods[i%len(pods)])
		p.Status.Phase, p.Status.Message = corev1.PodRunning, fmt.Sprint(i)
		r.must(write(UpdateStatus, p))
	}
}

// BenchmarkHeartbeats is one round of renewals of 5,000 nodes, as they come every 10 s, and its checkpoint. It reports the processor's time
// of the whole process, the callers' too, as a share of one processor over those 10 s.
func BenchmarkHeartbeats(b *testing.B) {
	const nodes = 5000
	r := newRig(b, raftstore.MemoryStorage(), func(c *Config) { c.LeaseCheckpoint = 50 * time.Millisecond })
	defer r.stop()
	r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}))
	name := func(i int) string { return fmt.Sprintf("node-%04d", i) }
	for i := range nodes {
		r.must(write(Create, nodeLease(name(i), name(i))))
	}
	rev, index := r.store.View().Rev(), r.store.Stats().LastIndex
	began := cpuTime(b)
	for b.Loop() {
		var wg sync.WaitGroup
		last := time.Now()
		for w := range 16 {
			wg.Go(func() {
				for i := w; i < nodes; i += 16 {
					if _, err := r.submit(write(Update, nodeLease(name(i), name(i)))); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		key := object.Key{Resource: "leases", Namespace: corev1.NamespaceNodeLease, Name: name(nodes - 1)}
		for {
			o, _ := cluster.NewView(r.store.View()).Get(key)
			if !o.(*coordinationv1.Lease).Spec.RenewTime.Time.Before(last.Truncate(time.Microsecond)) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	used := cpuTime(b) - began
	b.ReportMetric(used.Seconds()/float64(b.N)/10*100, "%cpu/10s")
	b.ReportMetric(float64(r.store.View().Rev()-rev)/float64(b.N), "revisions/round")
	b.ReportMetric(float64(r.store.Stats().LastIndex-index)/float64(b.N), "entries/round")
}

// cpuTime is the processor's time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
