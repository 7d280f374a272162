package node_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestEventsAsKubelet: what goes wrong is told in a kubelet's words, which people and tools look for.
func TestEventsAsKubelet(t *testing.T) {
	l := newLab(t)
	sick := container("c", "serve", "8080")
	sick.LivenessProbe = httpProbe("/healthz")
	sick.LivenessProbe.FailureThreshold = 1
	l.server.Put(pod("sick", sick))
	l.server.Put(pod("crash", container("c", "exit", "3")))
	l.server.Put(pod("noimage", corev1.Container{Name: "c", Image: "missing:1", ImagePullPolicy: corev1.PullIfNotPresent}))
	l.server.Put(pod("never", corev1.Container{Name: "c", Image: "missing:1", ImagePullPolicy: corev1.PullNever}))
	const cure = "put it there with `reconcile image import` or `reconcile image build`"
	l.ready("sick")
	l.exec("sick", "c", "mkdir-sick")
	for name, want := range map[string][]string{
		"crash": {"Warning BackOff Back-off restarting failed container c in pod crash_default(uid-crash)"},
		"noimage": {
			"Normal Pulling Pulling image \"missing:1\"",
			"Warning Failed Failed to pull image \"missing:1\": image \"missing:1\" is not on node n1, and registries are not supported yet; " + cure,
			"Warning Failed Error: ErrImagePull",
			"Normal BackOff Back-off pulling image \"missing:1\"",
			"Warning Failed Error: ImagePullBackOff",
		},
		"never": {
			"Warning ErrImageNeverPull Container image \"missing:1\" is not present with pull policy of Never; put it on node n1 with `reconcile image import` or `reconcile image build`",
			"Warning Failed Error: ErrImageNeverPull",
		},
		"sick": {
			"Warning Unhealthy Liveness probe failed: HTTP probe failed with statuscode: 500",
			"Normal Killing Container c failed liveness probe, will be restarted",
		},
	} {
		var have []string
		l.eventually(name+" is told", func() bool {
			have = l.server.Told(name)
			return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) })
		})
		if t.Failed() {
			t.Logf("%s: %q", name, have)
		}
	}
	l.eventually("the image's container waits as a kubelet's does", func() bool {
		s := l.server.Pod("default", "noimage").Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "ImagePullBackOff" &&
			s[0].State.Waiting.Message == "Back-off pulling image \"missing:1\": ErrImagePull: image \"missing:1\" is not on node n1, and registries are not supported yet; "+cure
	})
}
