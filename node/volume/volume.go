package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"reconcile/node/runtime"
)

// Getter finds what volumes and environment variables are made of. An error for which errors.Is(err, ErrNotFound) means that
// there is no such object.
type Getter interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// ErrNotFound says that a ConfigMap or Secret does not exist.
var ErrNotFound = errors.New("not found")

// ConfigError is a fault of the pod or of an object it names; the user must mend it. It becomes CreateContainerConfigError.
type ConfigError struct{ Message string }

// Error implements error.
func (e *ConfigError) Error() string { return e.Message }

func configError(format string, a ...any) error {
	return &ConfigError{Message: fmt.Sprintf(format, a...)}
}

// Pod is one pod's volumes: Dir is the sandbox's folder.
type Pod struct {
	Pod *corev1.Pod
	Dir string
	// IP is the pod's address, for the downward API.
	IP  string
	Get Getter
}

func (p Pod) dir(v string) string { return filepath.Join(p.Dir, "volumes", v) }

// Setup makes every volume of the pod, or brings the files of those that follow objects up to date. It is idempotent.
func (p Pod) Setup(ctx context.Context) error {
	for _, v := range p.Pod.Spec.Volumes {
		if err := p.setup(ctx, v); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	return nil
}

// Update brings the files of volumes that follow objects up to date.
func (p Pod) Update(ctx context.Context) error {
	var errs []error
	for _, v := range p.Pod.Spec.Volumes {
		if follows(v) {
			errs = append(errs, p.follow(ctx, v))
		}
	}
	return errors.Join(errs...)
}

// follows tells whether a volume's files are those of objects.
func follows(v corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// follow writes a volume's files into its folder as it stands: containers have that folder mounted, and a mount over it would not be seen
// by them.
func (p Pod) follow(ctx context.Context, v corev1.Volume) error {
	files, err := p.files(ctx, v)
	if err != nil {
		return err
	}
	return p.writeFiles(v.Name, files)
}

func (p Pod) setup(ctx context.Context, v corev1.Volume) error {
	switch {
	case v.EmptyDir != nil:
		return p.emptyDir(v.Name, v.EmptyDir)
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.ConfigMap != nil:
		return p.follow(ctx, v)
	case v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil:
		if err := inMemory(p.dir(v.Name)); err != nil {
			return err
		}
		return p.follow(ctx, v)
	}
	return configError("its kind is not supported yet; emptyDir, configMap, secret, downwardAPI, projected and hostPath are")
}

// emptyDir is a folder, or a tmpfs for medium Memory.
func (p Pod) emptyDir(name string, e *corev1.EmptyDirVolumeSource) error {
	dir := p.dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if e.Medium == corev1.StorageMediumMemory {
		if ok, err := mountinfo.Mounted(dir); err != nil || ok {
			return err
		}
		opts := "mode=1777"
		if e.SizeLimit != nil && e.SizeLimit.Value() > 0 {
			opts += ",size=" + strconv.FormatInt(e.SizeLimit.Value(), 10)
		}
		if err := mountTmpfs(dir, opts); err != nil {
			return err
		}
		return p.ownGroup(dir, 0o777|os.ModeSticky)
	}
	return p.ownGroup(dir, 0o777)
}

// mountTmpfs mounts memory that does not go to swap where the kernel can promise that (6.4 and later).
func mountTmpfs(dir, opts string) error {
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts)
	}
	if err != nil {
		return fmt.Errorf("mount memory at %s: %w", dir, err)
	}
	return nil
}

// inMemory makes a folder of memory for what must never be on disk: Secrets, and what the kubelet keeps as they are kept (projected and
// downward API volumes). What is there on disk is removed.
func inMemory(dir string) error {
	ok, err := mountinfo.Mounted(dir)
	if ok || err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return mountTmpfs(dir, "mode=0755")
}

// ownGroup gives a folder its mode, and to the pod's fsGroup, with what is made in it from now on.
func (p Pod) ownGroup(dir string, mode os.FileMode) error {
	if s := p.Pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		if err := os.Chown(dir, -1, int(*s.FSGroup)); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

func hostPath(h *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(h.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	st, err := os.Stat(h.Path)
	if err != nil {
		if kind == corev1.HostPathUnset && errors.Is(err, os.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755)
		}
		return configError("hostPath type check failed: %v", err)
	}
	m := st.Mode()
	ok := map[corev1.HostPathType]bool{corev1.HostPathUnset: true, corev1.HostPathDirectoryOrCreate: m.IsDir(), corev1.HostPathDirectory: m.IsDir(),
		corev1.HostPathFileOrCreate: m.IsRegular(), corev1.HostPathFile: m.IsRegular(), corev1.HostPathSocket: m&os.ModeSocket != 0,
		corev1.HostPathCharDev: m&os.ModeCharDevice != 0, corev1.HostPathBlockDev: m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0}
	if !ok[kind] {
		return configError("hostPath type check failed: %s is not a %s", h.Path, kind)
	}
	return nil
}

// Mounts are a container's volumeMounts and the files of /etc, for the runtime. env expands subPathExpr.
func (p Pod) Mounts(c *corev1.Container, env map[string]string) ([]runtime.Mount, error) {
	var out []runtime.Mount
	own := map[string]bool{}
	for _, m := range c.VolumeMounts {
		i := volumeIndex(p.Pod, m.Name)
		if i < 0 {
			return nil, configError("container %q mounts volume %q, which the pod does not have", c.Name, m.Name)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = Expand(m.SubPathExpr, env)
		}
		if path.IsAbs(sub) || strings.HasPrefix(path.Clean(sub), "..") {
			return nil, configError("container %q: subPath %q leads out of the volume", c.Name, sub)
		}
		rm := runtime.Mount{Source: p.dir(m.Name), Target: m.MountPath, SubPath: sub, ReadOnly: m.ReadOnly || p.readOnly(i)}
		if h := p.Pod.Spec.Volumes[i].HostPath; h != nil {
			rm.Source = h.Path
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			rm.Propagation = string(*m.MountPropagation)
		}
		own[path.Clean(m.MountPath)] = true
		out = append(out, rm)
	}
	for _, f := range []string{"hosts", "hostname", "resolv.conf"} {
		if target := "/etc/" + f; !own[target] {
			out = append(out, runtime.Mount{Source: filepath.Join(p.Dir, "etc", f), Target: target})
		}
	}
	return out, nil
}

// readOnly: what follows an object must not be written by containers.
func (p Pod) readOnly(i int) bool {
	return follows(p.Pod.Spec.Volumes[i])
}

func volumeIndex(pod *corev1.Pod, name string) int {
	for i, v := range pod.Spec.Volumes {
		if v.Name == name {
			return i
		}
	}
	return -1
}

// References are the names of the ConfigMaps and Secrets that the pod's volumes and environment name.
func References(pod *corev1.Pod) (configMaps, secrets []string) {
	cm, sec := map[string]bool{}, map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			cm[v.ConfigMap.Name] = true
		}
		if v.Secret != nil {
			sec[v.Secret.SecretName] = true
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					cm[s.ConfigMap.Name] = true
				}
				if s.Secret != nil {
					sec[s.Secret.Name] = true
				}
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, e := range c.EnvFrom {
				if e.ConfigMapRef != nil {
					cm[e.ConfigMapRef.Name] = true
				}
				if e.SecretRef != nil {
					sec[e.SecretRef.Name] = true
				}
			}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					cm[e.ValueFrom.ConfigMapKeyRef.Name] = true
				}
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					sec[e.ValueFrom.SecretKeyRef.Name] = true
				}
			}
		}
	}
	return keys(cm), keys(sec)
}
