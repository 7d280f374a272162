package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// realStore is a member of the control plane in memory: raft, store, sequencer and controllers, as package server wires them.
type realStore struct {
	store *raftstore.Store
	*sequencer.Sequencer
}

func (r realStore) View() api.View { return cluster.NewView(r.store.View()) }

func (r realStore) Wait(ctx context.Context, rev uint64) error { return r.store.WaitRev(ctx, rev) }

func (r realStore) Watch(resource, namespace string, after uint64) (api.Watch, error) {
	w, err := cluster.WatchObjects(r.store, resource, namespace, after)
	if err != nil {
		return nil, compacted(err)
	}
	return realWatch{w}, nil
}

type realWatch struct{ *cluster.Watch }

func (w realWatch) Next(ctx context.Context) ([]cluster.Event, uint64, error) {
	e, rev, err := w.Watch.Next(ctx)
	return e, rev, compacted(err)
}

func compacted(err error) error {
	if errors.Is(err, raftstore.ErrCompacted) {
		return fmt.Errorf("%w: %w", api.ErrCompacted, err)
	}
	return err
}

func newRealStore(t testing.TB) realStore {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{
		Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	services := netip.MustParsePrefix("10.96.0.0/16")
	set, err := controller.NewSet(controller.Config{ClusterID: store.Identity().ClusterID, ServiceRange: services, PodRange: netip.MustParsePrefix("10.244.0.0/16"), AdmitPod: admission.AdmitPod[controller.View]})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := sequencer.New(sequencer.Config{Store: store, Settler: sequencer.Controllers{Set: set}, Ranges: admission.Ranges{Services: services}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := store.Run(ctx); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	wg.Go(func() {
		if err := seq.Run(ctx); err != nil {
			t.Errorf("sequencer: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		store.Close()
	})
	return realStore{store, seq}
}

func startReal(t testing.TB) *apitest.Server {
	t.Helper()
	r := newRealStore(t)
	return apitest.Start(t, apitest.New(), func(c *api.Config) { c.Store, c.Writer = r, r })
}

// TestOnTheRealStore deploys with the real kubectl on raft, sequencer and controllers; the test plays the agent.
func TestOnTheRealStore(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	k := newKubectl(t, s)
	c := typed(t, s, true)
	ctx := t.Context()
	eventually(t, "the preset namespaces", func() bool {
		_, err := c.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if err := c.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "this namespace may not be deleted") {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"kubernetes.io/hostname": "n1"}}}
	node, err := c.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110")}
	node.Status.Capacity, node.Status.Allocatable = room, room
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	node.ResourceVersion = ""
	if _, err := c.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	has(t, k.ok("", "get", "nodes"), "n1", "Ready")
	has(t, k.ok(webYAML, "apply", "-f", "-"), "deployment.apps/web created", "service/web created")

	play := func() int {
		pods, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
		if err != nil {
			t.Fatal(err)
		}
		ready := 0
		for i := range pods.Items {
			p := &pods.Items[i]
			if p.DeletionTimestamp != nil {
				if err := c.CoreV1().Pods("default").Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
					t.Logf("delete %s: %v", p.Name, err)
				}
				continue
			}
			if p.Status.Phase == corev1.PodRunning {
				ready++
				continue
			}
			p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.244.0.%d", i+2)
			p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", Ready: true, Image: p.Spec.Containers[0].Image, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
			if _, err := c.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
				t.Logf("status of %s: %v", p.Name, err)
			}
		}
		return ready
	}
	eventually(t, "three pods", func() bool { return play() == 3 })
	has(t, k.ok("", "rollout", "status", "deploy/web", "--timeout=20s"), `deployment "web" successfully rolled out`)
	has(t, k.ok("", "get", "deploy,rs,svc,ep,endpointslice"), "3/3", "10.96.", "10.244.0.2:80")
	has(t, k.ok("", "describe", "deploy", "web"), "3 available")
	has(t, k.ok("", "rollout", "history", "deploy/web"), "REVISION")

	// A watch runs while the deployment is scaled.
	wctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	w := k.cmd(wctx, "", "get", "pods", "-w", "--output-watch-events")
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	lines := readLines(out)
	for range 4 {
		<-lines
	}
	has(t, k.ok("", "scale", "deploy/web", "--replicas=4"), "scaled")
	if l := <-lines; !strings.HasPrefix(l, "ADDED") || !strings.Contains(l, "0/1") {
		t.Errorf("first line after scaling: %s", l)
	}
	eventually(t, "four pods", func() bool { return play() == 4 })
	stop()
	for range lines {
	}
	//nolint:errcheck // it was killed
	w.Wait()

	has(t, k.ok("", "set", "image", "deploy/web", "web=nginx:2"), "image updated")
	eventually(t, "four pods of the new image", func() bool {
		play()
		d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		return err == nil && d.Status.UpdatedReplicas == 4 && d.Status.AvailableReplicas == 4 && d.Status.Replicas == 4
	})
	has(t, k.ok("", "rollout", "status", "deploy/web", "--timeout=20s"), "successfully rolled out")
	has(t, k.ok("", "rollout", "undo", "deploy/web"), "rolled back")
	has(t, k.ok("", "delete", "deploy", "web", "--wait=false"), "deleted")
	eventually(t, "no pods", func() bool {
		play()
		l, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err == nil && len(l.Items) == 0
	})
}

// TestListOfWhatIsStored: a list and the present objects of a watch are the same in protobuf, which is read from the store, and in JSON.
func TestListOfWhatIsStored(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	proto, plain := typed(t, s, true), typed(t, s, false)
	waitForNamespace(t, proto)
	for i := range 3 {
		p := bigPod(i)
		p.ManagedFields, p.Spec.NodeName = nil, ""
		if _, err := plain.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want, err := plain.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(want.Items) != 3 {
		t.Fatal(len(want.Items), err)
	}
	got, err := proto.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{ResourceVersion: want.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("in protobuf %v, in JSON %v", got, want)
	}
	w, err := proto.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range want.Items {
		want.Items[i].TypeMeta = metav1.TypeMeta{}
		if e := <-w.ResultChan(); !equality.Semantic.DeepEqual(e.Object, &want.Items[i]) {
			t.Errorf("the watch begins with %v, want %v", e.Object, want.Items[i])
		}
	}
}
