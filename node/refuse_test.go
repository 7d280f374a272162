package node_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

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
