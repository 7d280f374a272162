package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/image"
	"reconcile/node/runtime"
	"reconcile/node/volume"
)

// startFault is a container that cannot be started yet, with the reason that its status shows.
type startFault struct {
	reason, message string
	retry           time.Duration
}

// The reasons for a missing image, in a kubelet's words: the first time it was looked for, the times after, and where it must not be pulled.
const (
	errImagePull      = "ErrImagePull"
	imagePullBackOff  = "ImagePullBackOff"
	errImageNeverPull = "ErrImageNeverPull"
)

// Error implements error.
func (f *startFault) Error() string { return f.message }

// findImage resolves a container's image. No registry is reached: an image must be on the node.
func (a *Agent) findImage(c *corev1.Container) (image.Image, error) {
	img, err := a.edges.Images.Resolve(c.Image)
	if err == nil {
		return img, nil
	}
	if !errors.Is(err, image.ErrNotFound) {
		return img, &startFault{reason: "InvalidImageName", message: fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err), retry: 10 * time.Second}
	}
	if c.ImagePullPolicy == corev1.PullNever {
		return img, &startFault{reason: errImageNeverPull, retry: time.Second,
			message: fmt.Sprintf("Container image %q is not present with pull policy of Never; put it on node %s with `reconcile image import` or `reconcile image build`", c.Image, a.cfg.NodeName)}
	}
	return img, &startFault{reason: errImagePull, retry: time.Second,
		message: fmt.Sprintf("image %q is not on node %s, and registries are not supported yet; put it there with `reconcile image import` or `reconcile image build`", c.Image, a.cfg.NodeName)}
}

// containerConfig is everything the runtime must know of one attempt.
func (a *Agent) containerConfig(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sb runtime.Sandbox, ip string, act Action) (runtime.ContainerConfig, error) {
	img, err := a.findImage(c)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	base, layers, err := a.edges.Images.Layers(img)
	if err != nil {
		return runtime.ContainerConfig{}, &startFault{reason: errImageNeverPull, message: err.Error(), retry: 5 * time.Second}
	}
	vp := volume.Pod{Pod: pod, Dir: sb.Dir, IP: ip, Get: a.objects}
	m := a.machine()
	env, vals, err := vp.Env(ctx, c, a.baseEnv(pod, img.Config.Env), volume.Allocatable{MilliCPU: m.MilliCPU, Memory: m.Memory})
	if err != nil {
		return runtime.ContainerConfig{}, configFault(err)
	}
	mounts, err := vp.Mounts(c, vals)
	if err != nil {
		return runtime.ContainerConfig{}, configFault(err)
	}
	out := runtime.ContainerConfig{
		ID: containerID(pod, c.Name, act.Attempt), PodUID: string(pod.UID), Name: c.Name, Attempt: act.Attempt, Hash: containerHash(c),
		ImageID: img.ID, Image: img.Name, LayerBase: base, Layers: layers,
		Args: command(c, img.Config.Entrypoint, img.Config.Cmd, vals), Env: env, Cwd: first(c.WorkingDir, img.Config.WorkingDir, "/"),
		User: img.Config.User, Mounts: mounts, Resources: containerResources(pod, c, m.Memory), HostPID: pod.Spec.HostPID,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY, StopSignal: img.Config.StopSignal,
		TerminationLog: first(c.TerminationMessagePath, "/dev/termination-log"),
		MessageFromLog: c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError,
		LogPath:        a.logPath(pod, c.Name, act.Attempt),
		Labels:         map[string]string{labelBackoff: act.Backoff.String()},
	}
	if len(out.Args) == 0 {
		return out, &startFault{reason: "CreateContainerError", message: fmt.Sprintf("neither the container nor image %s says what to run", img.Name), retry: 10 * time.Second}
	}
	return out, securityContext(&out, pod, c)
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func configFault(err error) error {
	return &startFault{reason: "CreateContainerConfigError", message: err.Error(), retry: 2 * time.Second}
}

// command is Kubernetes' rule: command replaces the entry point and drops the image's arguments, args replace those.
func command(c *corev1.Container, entrypoint, cmd []string, env map[string]string) []string {
	head, tail := entrypoint, cmd
	if len(c.Command) > 0 {
		head, tail = c.Command, nil
	}
	if len(c.Args) > 0 {
		tail = c.Args
	}
	var out []string
	for _, s := range slices.Concat(head, tail) {
		if len(c.Command) > 0 || len(c.Args) > 0 {
			s = volume.Expand(s, env)
		}
		out = append(out, s)
	}
	return out
}

// baseEnv is what every container gets: the image's variables, and where the API is.
func (a *Agent) baseEnv(pod *corev1.Pod, image []string) map[string]string {
	host, port := a.cfg.APIService.Addr().String(), strconv.Itoa(int(a.cfg.APIService.Port()))
	url := "tcp://" + a.cfg.APIService.String()
	out := map[string]string{
		"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "KUBERNETES_SERVICE_PORT_HTTPS": port,
		"KUBERNETES_PORT": url, "KUBERNETES_PORT_443_TCP": url, "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
		"KUBERNETES_PORT_443_TCP_PORT": port, "KUBERNETES_PORT_443_TCP_ADDR": host,
		"HOSTNAME": hostname(pod, a.cfg.NodeName), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	for _, e := range image {
		if k, v, ok := strings.Cut(e, "="); ok {
			out[k] = v
		}
	}
	return out
}

// hostname is the pod's: its own field, or its name cut to 63 bytes; the node's with the host's network.
func hostname(pod *corev1.Pod, node string) string {
	switch {
	case pod.Spec.HostNetwork:
		return node
	case pod.Spec.Hostname != "":
		return pod.Spec.Hostname
	}
	return strings.TrimRight(pod.Name[:min(len(pod.Name), 63)], "-.")
}

func (a *Agent) logDir(pod *corev1.Pod) string {
	return filepath.Join(a.cfg.Root, "logs", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

func (a *Agent) logPath(pod *corev1.Pod, container string, attempt int) string {
	return filepath.Join(a.logDir(pod), container, strconv.Itoa(attempt)+".log")
}

// securityContext applies the pod's and the container's; the container's goes first.
func securityContext(out *runtime.ContainerConfig, pod *corev1.Pod, c *corev1.Container) error {
	p, s := pod.Spec.SecurityContext, c.SecurityContext
	if p == nil {
		p = &corev1.PodSecurityContext{}
	}
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	uid, gid, nonRoot := or(s.RunAsUser, p.RunAsUser), or(s.RunAsGroup, p.RunAsGroup), or(s.RunAsNonRoot, p.RunAsNonRoot)
	if nonRoot != nil && *nonRoot {
		if err := mustBeNonRoot(uid, out.User, out.Image); err != nil {
			return err
		}
	}
	if uid != nil {
		out.User = strconv.FormatInt(*uid, 10)
	}
	if gid != nil {
		user, _, _ := strings.Cut(out.User, ":")
		out.User = first(user, "0") + ":" + strconv.FormatInt(*gid, 10)
	}
	out.Groups = append(out.Groups, p.SupplementalGroups...)
	if p.FSGroup != nil {
		out.Groups = append(out.Groups, *p.FSGroup)
	}
	for _, x := range p.Sysctls {
		if out.Sysctls == nil {
			out.Sysctls = map[string]string{}
		}
		out.Sysctls[x.Name] = x.Value
	}
	yes := func(b *bool) bool { return b != nil && *b }
	out.Privileged, out.ReadOnlyRootFS = yes(s.Privileged), yes(s.ReadOnlyRootFilesystem)
	out.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	out.UnmaskProc = s.ProcMount != nil && *s.ProcMount == corev1.UnmaskedProcMount
	if s.Capabilities != nil {
		for _, n := range s.Capabilities.Add {
			out.CapAdd = append(out.CapAdd, string(n))
		}
		for _, n := range s.Capabilities.Drop {
			out.CapDrop = append(out.CapDrop, string(n))
		}
	}
	return seccompProfile(out, or(s.SeccompProfile, p.SeccompProfile))
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func seccompProfile(out *runtime.ContainerConfig, p *corev1.SeccompProfile) error {
	if p == nil {
		return nil
	}
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		out.Seccomp = "Unconfined"
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			return configFault(errors.New("seccompProfile of type Localhost names no file"))
		}
		out.Seccomp = *p.LocalhostProfile
	}
	return nil
}

func mustBeNonRoot(uid *int64, user, img string) error {
	if uid != nil {
		if *uid == 0 {
			return configFault(errors.New("container's runAsUser breaks non-root policy"))
		}
		return nil
	}
	name, _, _ := strings.Cut(user, ":")
	n, err := strconv.Atoi(first(name, "0"))
	switch {
	case err != nil:
		return configFault(fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name))
	case n == 0:
		return configFault(fmt.Errorf("container has runAsNonRoot and image %s will run as root", img))
	}
	return nil
}
