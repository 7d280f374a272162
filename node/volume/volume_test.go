package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/needs"
	"reconcile/node/runtime"
	"reconcile/node/volume"
)

type getter map[string]map[string]string

func (g getter) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	d, ok := g["cm/"+name]
	if !ok {
		return nil, fmt.Errorf("no: %w", volume.ErrNotFound)
	}
	return &corev1.ConfigMap{Data: d}, nil
}

func (g getter) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	d, ok := g["secret/"+name]
	if !ok {
		return nil, fmt.Errorf("no: %w", volume.ErrNotFound)
	}
	out := &corev1.Secret{Data: map[string][]byte{}}
	for k, v := range d {
		out.Data[k] = []byte(v)
	}
	return out, nil
}

func newPod(t *testing.T, g getter, vols ...corev1.Volume) volume.Pod {
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := runtime.RemoveTree(dir); err != nil { // with what is mounted there
			t.Error(err)
		}
	})
	for _, v := range vols {
		if os.Geteuid() != 0 && (v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil) {
			needs.Missing(t, "secrets are kept in memory, and to mount a tmpfs needs root; run `sudo -E make test`")
		}
	}
	return volume.Pod{Dir: dir, IP: "10.0.0.2", Get: g, Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"app": "web", "tier": "1"}}, Spec: corev1.PodSpec{NodeName: "n1", Volumes: vols}}}
}

func text(t *testing.T, p volume.Pod, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.Dir, "volumes", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConfigMapVolumeFollows(t *testing.T) {
	mode := int32(0o400)
	g := getter{"cm/c": {"a": "1", "b": "2"}, "secret/s": {"k": "hidden"}}
	p := newPod(t, g, corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, DefaultMode: &mode}}},
		corev1.Volume{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "k", Path: "deep/er"}}}}})
	if err := p.Setup(context.Background()); err != nil {
		t.Fatal(err)
	}
	if text(t, p, "v/a") != "1" || text(t, p, "s/deep/er") != "hidden" {
		t.Error("contents")
	}
	if st, err := os.Stat(filepath.Join(p.Dir, "volumes/v/a")); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	before, _ := os.Readlink(filepath.Join(p.Dir, "volumes/v/..data"))
	if err := p.Update(context.Background()); err != nil {
		t.Fatal(err)
	}
	if same, _ := os.Readlink(filepath.Join(p.Dir, "volumes/v/..data")); same != before {
		t.Error("an unchanged volume was written again")
	}
	g["cm/c"] = map[string]string{"a": "new", "c": "3"}
	if err := p.Update(context.Background()); err != nil {
		t.Fatal(err)
	}
	if text(t, p, "v/a") != "new" || text(t, p, "v/c") != "3" {
		t.Error("the update was not followed")
	}
	entries, _ := os.ReadDir(filepath.Join(p.Dir, "volumes/v"))
	var names []string
	for _, e := range entries {
		if e.Name() != "..data" && strings.HasPrefix(e.Name(), "..") {
			continue
		}
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "..data a c" || len(entries) != 4 {
		t.Errorf("the folder holds %s (%d entries)", got, len(entries))
	}
}

func TestMissingObjects(t *testing.T) {
	yes := true
	for _, tc := range []struct {
		vol  corev1.VolumeSource
		want string
	}{
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}}, `configmap "x" not found`},
		{corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "x"}}, `secret "x" not found`},
		{corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "x", Optional: &yes}}, ""},
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "no", Path: "p"}}}}, `no key "no"`},
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "a", Path: "../p"}}}}, "leads out"},
		{corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, "not supported yet"},
	} {
		p := newPod(t, getter{"cm/c": {"a": "1"}}, corev1.Volume{Name: "v", VolumeSource: tc.vol})
		err := p.Setup(context.Background())
		var ce *volume.ConfigError
		if tc.want == "" && err != nil || tc.want != "" && (!errors.As(err, &ce) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v: %v, want %q", tc.vol, err, tc.want)
		}
	}
}

func TestEnv(t *testing.T) {
	g := getter{"cm/c": {"A": "1"}, "secret/s": {"P": "pw"}}
	p := newPod(t, g)
	c := &corev1.Container{Name: "c", EnvFrom: []corev1.EnvFromSource{{Prefix: "X_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}},
		Env: []corev1.EnvVar{
			{Name: "ONE", Value: "$(X_A)-$(NO)-$$(X_A)-$"},
			{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "LABEL", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
			{Name: "PW", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "P"}}},
			{Name: "URL", Value: "http://$(POD)/$(ONE)"},
		}}
	p.Pod.Spec.Containers = []corev1.Container{*c}
	got, _, err := p.Env(context.Background(), c, map[string]string{"BASE": "b"}, volume.Allocatable{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	want := "BASE=b X_A=1 ONE=1-$(NO)-$(X_A)-$ POD=p LABEL=web CPU=2 MEM=64 PW=pw URL=http://p/1-$(NO)-$(X_A)-$"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "gone"}}}}
	if _, _, err := p.Env(context.Background(), c, nil, volume.Allocatable{}); err == nil || err.Error() != "couldn't find key gone in ConfigMap ns/c" {
		t.Errorf("a missing key: %v", err)
	}
}

func TestResolvConf(t *testing.T) {
	host := []byte("nameserver 192.0.2.53\nsearch example.org\noptions edns0\n")
	d := volume.DNS{Server: "10.96.0.10", Domain: "cluster.local"}
	five := "5"
	for _, tc := range []struct {
		spec corev1.PodSpec
		want string
	}{
		{corev1.PodSpec{}, "search ns.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "search example.org\nnameserver 192.0.2.53\noptions edns0\n"},
		{corev1.PodSpec{HostNetwork: true}, "search example.org\nnameserver 192.0.2.53\noptions edns0\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &five}}}}, "nameserver 1.1.1.1\noptions ndots:5\n"},
	} {
		if got := string(volume.ResolvConf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: tc.spec}, d, host)); got != tc.want {
			t.Errorf("%+v:\n%s\nwant\n%s", tc.spec, got, tc.want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)$$(B)$(")
	f.Fuzz(func(t *testing.T, s string) {
		if got := volume.Expand(s, nil); !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

// inMemory tells whether a path is on a tmpfs.
func inMemory(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Type == unix.TMPFS_MAGIC
}

// TestSecretsStayInMemory: what may hold secrets is never written to disk, as in Kubernetes, also when it changes and after a reboot.
func TestSecretsStayInMemory(t *testing.T) {
	ref := corev1.LocalObjectReference{Name: "c"}
	g := getter{"cm/c": {"k": "open"}, "secret/s": {"k": "hidden"}}
	p := newPod(t, g,
		corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
		corev1.Volume{Name: "projected", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}}}}},
		corev1.Volume{Name: "downward", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "k", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}},
		corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref}}})
	disk := inMemory(t, p.Dir)
	check := func(when, secret string) {
		t.Helper()
		for name, memory := range map[string]bool{"secret": true, "projected": true, "downward": true, "config": disk} {
			if got := inMemory(t, filepath.Join(p.Dir, "volumes", name, "k")); got != memory {
				t.Errorf("%s: %s in memory: %v, want %v", when, name, got, memory)
			}
		}
		if a, b := text(t, p, "secret/k"), text(t, p, "projected/k"); a != secret || b != secret {
			t.Errorf("%s: %q and %q, want %q", when, a, b, secret)
		}
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(p.Dir))
		if err != nil || len(mounts) != 3 {
			t.Errorf("%s: %d mounts, %v, want 3", when, len(mounts), err)
		}
	}
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("set up", "hidden")
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("set up again", "hidden")
	g["secret/s"] = map[string]string{"k": "other"}
	if err := p.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("changed", "other")
	// A reboot takes the mounts. What an earlier version has left there on disk must go, too.
	for _, name := range []string{"secret", "projected", "downward"} {
		dir := filepath.Join(p.Dir, "volumes", name)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s left %v on disk, %v", name, left, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "left"), []byte("hidden"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after a reboot", "other")
	dir := filepath.Join(p.Dir, "volumes", "secret")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("on disk is still %v, %v", left, err)
	}
	// Its container has this folder mounted: what changes now must reach it there.
	g["secret/s"] = map[string]string{"k": "third"}
	if err := p.Update(t.Context()); err != nil || text(t, p, "secret/k") != "third" {
		t.Errorf("%v, %q", err, text(t, p, "secret/k"))
	}
}
