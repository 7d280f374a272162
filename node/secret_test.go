package node_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node/stream"
	"reconcile/object"
)

// TestSecretVolume follows a Secret through a container's life on this machine: it is in memory only, changes reach the container, also
// those after the agent's restart, and nothing stays mounted when the pod goes.
func TestSecretVolume(t *testing.T) {
	l := newLab(t)
	secret := func(value string) {
		l.server.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"k": []byte(value)}})
	}
	secret("first")
	p := pod("p", container("c", "sleep"))
	p.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "s", MountPath: "/secret"}}
	l.server.Put(p)
	before := l.ready("p")
	reads := func(want string) {
		t.Helper()
		l.eventually("the container reads "+want, func() bool {
			var out bytes.Buffer
			_, err := l.agent.Exec(context.Background(), "default", "p", "c", []string{"/app", "cat", "/secret/k"}, stream.Streams{Stdout: &out})
			return err == nil && strings.TrimSpace(out.String()) == want
		})
	}
	reads("first")
	dir := filepath.Join(l.cfg.Root, "pods", "uid-p", "volumes", "s")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("the volume is on a file system of type %x, %v", st.Type, err)
	}
	l.stop()
	secret("second")
	l.start()
	reads("second")
	if after := l.ready("p"); after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID {
		t.Error("the agent's restart changed the container")
	}
	l.server.Remove(object.KeyOf(p))
	l.eventually("the pod is gone", func() bool {
		list, err := l.edges.Runtime.Sandboxes(context.Background())
		return err == nil && len(list) == 0
	})
	if left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Join(l.cfg.Root, "pods"))); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %v, %v", left, err)
	}
}
