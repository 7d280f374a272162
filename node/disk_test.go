package node_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/internal/diskspace"
	"reconcile/node"
	"reconcile/node/image"
	"reconcile/object"
)

// fakeSpace is a disk of 100 GiB.
type fakeSpace struct {
	mu sync.Mutex
	// free are the GiB that are free but for what taken says, if it is set.
	free  int
	taken func() int
}

func (s *fakeSpace) set(free int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free
}

// Space implements diskspace.FileSystem.
func (s *fakeSpace) Space() (diskspace.Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := s.free
	if s.taken != nil {
		free -= s.taken()
	}
	return diskspace.Space{Total: 100 << 30, Free: uint64(free) << 30}, nil
}

// condition is a condition of the lab's node.
func (l *fakeLab) condition(kind corev1.NodeConditionType) corev1.NodeCondition {
	o, err := l.server.Get(context.Background(), object.Key{Resource: "nodes", Name: "n1"})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, c := range o.(*corev1.Node).Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// TestDiskPressure fills the disk and empties it: the node says so at once and takes it back after a rest, new pods are refused but critical
// ones, and what runs goes on running.
func TestDiskPressure(t *testing.T) {
	images := fakeImages(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		phase := func(name string) corev1.PodStatus { return l.server.Pod("default", name).Status }
		l.server.Put(pod("first", container("c", "sleep")))
		time.Sleep(20 * time.Second)
		if c := l.condition(corev1.NodeDiskPressure); c.Status != corev1.ConditionFalse || c.Reason != "KubeletHasNoDiskPressure" {
			t.Errorf("with space: %+v", c)
		}
		l.space.set(9)
		time.Sleep(11 * time.Second)
		if c := l.condition(corev1.NodeDiskPressure); c.Status != corev1.ConditionTrue || c.Reason != "KubeletHasDiskPressure" || !strings.Contains(c.Message, "9.0 GiB of 100.0 GiB are free, under 10 %") {
			t.Errorf("without space: %+v", c)
		}
		if c := l.condition(corev1.NodeReady); c.Status != corev1.ConditionTrue {
			t.Errorf("without space: %+v", c)
		}
		if !l.log.has("level=WARN", "the disk is nearly full", "9.0 GiB") {
			t.Error("nothing was logged")
		}
		critical := pod("critical", container("c", "sleep"))
		priority := int32(2_000_000_000)
		critical.Spec.Priority = &priority
		l.server.Put(critical)
		l.server.Put(pod("second", container("c", "sleep")))
		time.Sleep(10 * time.Second)
		if s := phase("second"); s.Phase != corev1.PodFailed || s.Reason != "Evicted" || s.Message != "Pod was rejected: The node had condition: [DiskPressure]. " {
			t.Errorf("a new pod: %s %s %q", s.Phase, s.Reason, s.Message)
		}
		if !slices.Contains(l.server.Events("second"), "Evicted") || len(l.of("uid-second")) > 0 {
			t.Errorf("a new pod: events %v, containers %v", l.server.Events("second"), l.of("uid-second"))
		}
		for _, name := range []string{"first", "critical"} {
			if s := phase(name); s.Phase != corev1.PodRunning {
				t.Errorf("%s: %+v", name, s)
			}
		}
		l.space.set(11)
		time.Sleep(4 * time.Minute)
		if c := l.condition(corev1.NodeDiskPressure); c.Status != corev1.ConditionTrue {
			t.Errorf("the condition does not rest: %+v", c)
		}
		time.Sleep(2 * time.Minute)
		if c := l.condition(corev1.NodeDiskPressure); c.Status != corev1.ConditionFalse {
			t.Errorf("with space again: %+v", c)
		}
		l.server.Put(pod("third", container("c", "sleep")))
		time.Sleep(10 * time.Second)
		if s := phase("third"); s.Phase != corev1.PodRunning {
			t.Errorf("a pod after that: %+v", s)
		}
	})
}

// TestImagesAreCollected fills a disk with images: those that no pod names go, the one used longest ago first, until there is space.
func TestImagesAreCollected(t *testing.T) {
	images := fakeImages(t)
	build := func(name string) {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app"), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := images.Build(context.Background(), name, dir, image.BuildOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	names := func() string {
		list, err := images.List()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range list {
			out = append(out, strings.TrimPrefix(i.Name, "index.docker.io/library/"))
		}
		return strings.Join(out, " ")
	}
	build("used-once:1")
	build("waits:1")
	build("never:1")
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, images)
		defer l.stop()
		l.space.set(60)
		l.space.taken = func() int { return 10 * len(strings.Fields(names())) }
		once := pod("once", corev1.Container{Name: "c", Image: "used-once:1", Args: []string{"/app", "sleep"}})
		l.server.Put(once)
		l.server.Put(pod("runs", container("c", "sleep")))
		// It cannot start, but its image must be there when it can.
		waits := pod("waits", corev1.Container{Name: "c", Image: "waits:1"})
		waits.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "absent"}}}}
		l.server.Put(waits)
		time.Sleep(3 * time.Minute)
		l.server.Remove(object.KeyOf(once))
		time.Sleep(3 * time.Minute)
		if got, want := names(), "guest:1 never:1 used-once:1 waits:1"; got != want {
			t.Errorf("with space there are %s, want %s", got, want)
		}
		l.space.set(54) // 86 % used; one image less, and it is 76 %
		time.Sleep(2 * time.Minute)
		if got, want := names(), "guest:1 used-once:1 waits:1"; got != want {
			t.Errorf("first there are left %s, want %s", got, want)
		}
		if !l.log.has("image removed", "never:1") {
			t.Error("nothing was logged")
		}
		build("new:1") // 86 % again
		time.Sleep(61 * time.Second)
		if got, want := names(), "guest:1 new:1 waits:1"; got != want {
			t.Errorf("then there are left %s, want %s", got, want)
		}
		l.space.set(34) // what is left is used or young
		time.Sleep(time.Minute)
		if got, want := names(), "guest:1 new:1 waits:1"; got != want {
			t.Errorf("then there are left %s, want %s", got, want)
		}
		time.Sleep(3 * time.Minute)
		if got, want := names(), "guest:1 waits:1"; got != want {
			t.Errorf("in the end there are left %s, want %s", got, want)
		}
	})
}

func TestDiskPolicy(t *testing.T) {
	if err := (node.DiskPolicy{}).Validate(); err != nil {
		t.Error(err)
	}
	p := node.DiskPolicy{Low: diskspace.Threshold{Free: 101}, Images: image.Policy{High: 70}}
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "Low.Free 101") || !strings.Contains(err.Error(), "less than High, 70") {
		t.Errorf("faults: %v", err)
	}
}
