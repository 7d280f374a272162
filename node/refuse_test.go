package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node/runtime"
	"reconcile/object"
)

// TestHostPortTaken gives the node pods that want a port of it which another pod has: they fail, for good, and one comes in when the port is free.
func TestHostPortTaken(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		put := func(name string, port corev1.ContainerPort) {
			p := pod(name, container("c", "sleep"))
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
			l.server.Put(p)
			time.Sleep(900 * time.Millisecond)
			if s := l.server.Pod("default", name).Status; s.Phase == corev1.PodFailed {
				t.Errorf("%s failed at once: an owner would make pods without end", name)
			}
			time.Sleep(10 * time.Second)
		}
		running := func(name string, want corev1.PodPhase) {
			if s := l.server.Pod("default", name).Status; s.Phase != want {
				t.Errorf("%s is %s, want %s (%s: %s)", name, s.Phase, want, s.Reason, s.Message)
			}
		}
		put("first", corev1.ContainerPort{ContainerPort: 80, HostPort: 21017})
		put("second", corev1.ContainerPort{ContainerPort: 81, HostPort: 21017, HostIP: "127.0.0.1", Protocol: corev1.ProtocolTCP})
		put("udp", corev1.ContainerPort{ContainerPort: 80, HostPort: 21017, Protocol: corev1.ProtocolUDP})
		put("other", corev1.ContainerPort{ContainerPort: 80})
		running("first", corev1.PodRunning)
		running("udp", corev1.PodRunning)
		running("other", corev1.PodRunning)
		const message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
		if s := l.server.Pod("default", "second").Status; s.Phase != corev1.PodFailed || s.Reason != "NodePorts" || s.Message != message {
			t.Errorf("second: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		if !slices.Contains(l.server.Events("second"), "NodePorts") || len(l.of("uid-second")) > 0 {
			t.Errorf("second: events %v, containers %v", l.server.Events("second"), l.of("uid-second"))
		}
		l.server.Remove(object.Key{Resource: "pods", Namespace: "default", Name: "first"})
		put("third", corev1.ContainerPort{ContainerPort: 80, HostPort: 21017})
		running("third", corev1.PodRunning)
		running("second", corev1.PodFailed)
	})
}

// TestRefusedByItsNode gives the node pods that name it and that it cannot take: they fail with a kubelet's words, none of their containers is
// started, and one whose label came by the other way is taken.
func TestRefusedByItsNode(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		time.Sleep(10 * time.Second) // the node is registered, with what it has
		put := func(name string, change func(*corev1.Pod)) corev1.PodStatus {
			p := pod(name, container("c", "sleep"))
			change(p)
			l.server.Put(p)
			time.Sleep(10 * time.Second)
			return l.server.Pod("default", name).Status
		}
		big := func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: kresource.MustParse("1000000")}
		}
		fast := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
		if s := put("big", big); s.Phase != corev1.PodFailed || s.Reason != "OutOfcpu" || !strings.HasPrefix(s.Message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000000, used: 0, capacity: ") {
			t.Errorf("big: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		if s := put("fast", fast); s.Phase != corev1.PodFailed || s.Reason != "NodeAffinity" || s.Message != "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector" {
			t.Errorf("fast: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		if told := l.server.Events("fast"); !slices.Contains(told, "NodeAffinity") || len(l.of("uid-fast")) > 0 {
			t.Errorf("fast: events %v, containers %v", told, l.of("uid-fast"))
		}
		if s := put("plain", func(*corev1.Pod) {}); s.Phase != corev1.PodRunning {
			t.Errorf("plain: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		o, err := l.server.Get(t.Context(), object.Key{Resource: "nodes", Name: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		o.SetLabels(map[string]string{"disk": "ssd"})
		l.server.Hide(o)
		if s := put("labelled", fast); s.Phase != corev1.PodRunning {
			t.Errorf("labelled: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
	})
}

// TestRoomOfAPodThatLeft gives the node a pod for the room of another whose containers are gone, before the agent has heard that the other's object is too:
// a preemption is that.
func TestRoomOfAPodThatLeft(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		time.Sleep(10 * time.Second)
		port := func(name string) *corev1.Pod {
			p := pod(name, container("c", "sleep"))
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 21017}}
			return p
		}
		l.server.Put(port("victim"))
		time.Sleep(10 * time.Second)
		l.server.BeforeDelete(func() {
			l.server.Put(port("preemptor"))
			time.Sleep(time.Second)
		})
		going, second := l.server.Pod("default", "victim"), int64(1)
		going.DeletionTimestamp, going.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Second)}, &second
		l.server.Put(going)
		time.Sleep(20 * time.Second)
		if l.server.Pod("default", "victim") != nil {
			t.Error("the victim is still there")
		}
		if s := l.server.Pod("default", "preemptor").Status; s.Phase != corev1.PodRunning {
			t.Errorf("the pod for its room is %s (%s: %s)", s.Phase, s.Reason, s.Message)
		}
	})
}

// TestActiveDeadline ends a pod that has been on the node for longer than it says, for good, also when its image never comes, and no other.
func TestActiveDeadline(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		put := func(name string, seconds int64, change func(*corev1.Pod)) {
			p := pod(name, container("c", "sleep"))
			p.Spec.ActiveDeadlineSeconds = &seconds
			change(p)
			l.server.Put(p)
		}
		put("short", 20, func(*corev1.Pod) {})
		put("stuck", 20, func(p *corev1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "missing:1", corev1.PullNever
		})
		put("long", 3600, func(*corev1.Pod) {})
		time.Sleep(18 * time.Second)
		if s := l.server.Pod("default", "short").Status; s.Phase != corev1.PodRunning {
			t.Errorf("before: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		time.Sleep(20 * time.Second)
		for _, name := range []string{"short", "stuck"} {
			s := l.server.Pod("default", name).Status
			if s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || s.Message != "Pod was active on the node longer than the specified deadline" {
				t.Errorf("%s: %s, %s: %s", name, s.Phase, s.Reason, s.Message)
			}
			if told := l.server.Events(name); !slices.Contains(told, "DeadlineExceeded") {
				t.Errorf("%s: events %v", name, told)
			}
		}
		for _, c := range l.of("uid-short") {
			if c.State == runtime.Running {
				t.Error("the container of short still runs")
			}
		}
		if s := l.server.Pod("default", "long").Status; s.Phase != corev1.PodRunning {
			t.Errorf("long: %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
	})
}

// TestRoomOfTheEnded has pods end while no server answers: those that come in the same list have their ports.
func TestRoomOfTheEnded(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		at := func(name string, port int32) *corev1.Pod {
			p := pod(name, container("c", "sleep"))
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: port}}
			return p
		}
		const n = 8 // the order of the list is any
		for i := range int32(n) {
			l.server.Put(at(fmt.Sprintf("old%d", i), 21100+i))
		}
		time.Sleep(10 * time.Second)
		l.server.SetAway(true)
		for i := range int32(n) {
			p := l.server.Pod("default", fmt.Sprintf("old%d", i)).DeepCopy()
			p.Status.Phase = corev1.PodFailed
			l.server.Hide(p)
			l.server.Hide(at(fmt.Sprintf("new%d", i), 21100+i))
		}
		l.server.SetAway(false)
		time.Sleep(10 * time.Second)
		for i := range n {
			if s := l.server.Pod("default", fmt.Sprintf("new%d", i)).Status; s.Phase != corev1.PodRunning {
				t.Errorf("new%d is %s (%s: %s)", i, s.Phase, s.Reason, s.Message)
			}
		}
	})
}
