package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node"
	"reconcile/node/image"
	"reconcile/node/network"
	"reconcile/node/nodetest"
	"reconcile/node/runtime"
	"reconcile/node/runtime/runtimefake"
	"reconcile/object"
)

// fakeLab is an agent on a machine in memory, for a test under testing/synctest.
type fakeLab struct {
	t      *testing.T
	disk   *runtimefake.Disk
	rt     *runtimefake.Runtime
	nw     network.Network
	server *nodetest.Server
	space  *fakeSpace
	log    logBuffer
	stop   func()
}

// fakeImages is a store with the image guest:1. It is made outside of the bubble.
func fakeImages(t *testing.T) *image.Store {
	t.Helper()
	store, err := image.Open(image.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app"), []byte("guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Build(context.Background(), "guest:1", dir, image.BuildOptions{}); err != nil {
		t.Fatal(err)
	}
	return store
}

func newFakeLab(t *testing.T, images *image.Store) *fakeLab {
	t.Helper()
	root := t.TempDir()
	t.Cleanup(func() {
		if err := runtime.RemoveTree(root); err != nil { // volumes of pods that are left may be mounted below it
			t.Error(err)
		}
	})
	l := &fakeLab{t: t, server: nodetest.NewServer(), disk: runtimefake.NewDisk(root), space: &fakeSpace{free: 50}}
	log := slog.New(slog.NewTextHandler(&l.log, nil))
	l.log.t = t
	cluster, self := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParseAddr("192.0.2.1")
	nw, err := network.New(network.Config{Root: filepath.Join(root, "network"), Bridge: "fake0", Cluster: cluster, Self: self, Log: log}, network.NewFakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	l.nw, l.rt = nw, runtimefake.Open(l.disk)
	a, err := node.New(node.Config{NodeName: "n1", Root: root, RunDir: root + "/run", CgroupPrefix: "/fake", Bridge: "fake0", ClusterCIDR: cluster,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: self.String()}}, Source: l.server, Sink: l.server, Log: log,
	}, node.Edges{Runtime: l.rt, Images: images, Network: nw, Disk: l.space})
	if err != nil {
		t.Fatal(err)
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}}
	l.server.Put(n)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = l.rt.Close()
	}
	return l
}

// of returns the pod's containers.
func (l *fakeLab) of(uid string) []runtime.Container {
	list, err := l.rt.List(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	var out []runtime.Container
	for _, c := range list {
		if c.Config.PodUID == uid {
			out = append(out, c)
		}
	}
	return out
}

// runs tells what is wrong with a pod that must run: one container, in a sandbox, with an address and a true status.
func (l *fakeLab) runs(name string) error {
	uid, running := "uid-"+name, 0
	for _, c := range l.of(uid) {
		if c.State == runtime.Running {
			running++
		}
	}
	if running != 1 {
		return fmt.Errorf("%d containers run", running)
	}
	list, err := l.rt.Sandboxes(context.Background())
	if err != nil || len(list) != 1 || !list[0].Alive {
		return fmt.Errorf("sandboxes %+v, %w", list, err)
	}
	if _, ok := l.nw.Attached()[uid]; !ok {
		return fmt.Errorf("it has no address")
	}
	p := l.server.Pod("default", name)
	if p == nil || p.Status.Phase != corev1.PodRunning || !isReady(p) || len(p.Status.ContainerStatuses) != 1 || p.Status.ContainerStatuses[0].State.Running == nil {
		return fmt.Errorf("its status is %+v", p)
	}
	return nil
}

// gone tells what is left of a pod that must not be there.
func (l *fakeLab) gone(name string) error {
	if list := l.of("uid-" + name); len(list) > 0 {
		return fmt.Errorf("containers are left: %+v", list)
	}
	if list, err := l.rt.Sandboxes(context.Background()); err != nil || len(list) > 0 {
		return fmt.Errorf("sandboxes are left: %+v, %w", list, err)
	}
	if left := l.nw.Attached(); len(left) > 0 {
		return fmt.Errorf("addresses are left: %v", left)
	}
	return nil
}

// TestPodComesBack takes a pod off the agent's list and puts it back with the same UID at every stage of its life: while it starts, runs,
// is stopped, is removed, and after. It must run in the end, whatever its restart policy, and go without a trace when it goes for good.
func TestPodComesBack(t *testing.T) {
	images := fakeImages(t)
	for _, relist := range []bool{false, true} {
		for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyNever} {
			for _, leaves := range []time.Duration{0, time.Second, 3 * time.Second, 30 * time.Second} {
				t.Run(fmt.Sprintf("relist=%v/%s/leaves after %s", relist, policy, leaves), func(t *testing.T) {
					for away := time.Duration(0); away <= 12*time.Second; away += 500 * time.Millisecond {
						synctest.Test(t, func(t *testing.T) {
							comesBack(t, newFakeLab(t, images), policy, leaves, away, relist)
						})
					}
				})
			}
		}
	}
}

func comesBack(t *testing.T, l *fakeLab, policy corev1.RestartPolicy, leaves, away time.Duration, relist bool) {
	defer l.stop()
	l.disk.StartDelay, l.disk.RemoveDelay = 2*time.Second, 2*time.Second
	change := func(do func()) {
		if !relist {
			do()
			return
		}
		l.server.SetAway(true) // the follower is told nothing but the whole list
		do()
		l.server.SetAway(false)
	}
	p := pod("p", container("c", "stubborn"))
	grace := int64(3)
	p.Spec.TerminationGracePeriodSeconds, p.Spec.RestartPolicy = &grace, policy
	key := object.KeyOf(p)
	l.server.Put(p)
	time.Sleep(leaves)
	back := l.server.Pod("default", "p")
	change(func() { l.server.Remove(key) })
	time.Sleep(away)
	change(func() { l.server.Put(back) })
	time.Sleep(time.Minute)
	if err := l.runs("p"); err != nil {
		t.Errorf("it was away for %s: a minute after it came back: %v", away, err)
	}
	change(func() { l.server.Remove(key) })
	time.Sleep(time.Minute)
	if err := l.gone("p"); err != nil {
		t.Errorf("it was away for %s: a minute after it left for good: %v", away, err)
	}
}

// TestBackWhileServerIsAsked: a pod comes back when all of it is removed and one question of its worker to the server is still open.
func TestBackWhileServerIsAsked(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		l.server.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cm"}})
		p := pod("p", container("c", "sleep"))
		p.Spec.Volumes = []corev1.Volume{{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}}
		l.server.Put(p)
		time.Sleep(5 * time.Second)
		back := l.server.Pod("default", "p")
		l.server.Delay("get configmaps", 9*time.Second)
		time.Sleep(6 * time.Second) // its volume is looked at each 10 s
		l.server.Remove(object.KeyOf(p))
		time.Sleep(3 * time.Second)
		l.server.Put(back)
		l.server.Delay("get configmaps", 0)
		time.Sleep(time.Minute)
		if err := l.runs("p"); err != nil {
			t.Error(err)
		}
		l.server.Remove(object.KeyOf(p))
		time.Sleep(time.Minute)
		if err := l.gone("p"); err != nil {
			t.Error(err)
		}
	})
}
