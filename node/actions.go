package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/node/probe"
	"reconcile/node/runtime"
	"reconcile/node/volume"
	"reconcile/object"
)

// begin starts an action beside the worker.
func (w *worker) begin(ctx context.Context, act Action) {
	pod, have := w.pod, w.have
	if have.Orphan && (act.Verb == StopIt || act.Verb == Teardown) {
		w.have.Ending = true
	}
	switch act.Verb {
	case Setup:
		w.spawn(act.Key(), func() func(*worker) { return w.a.setup(ctx, pod) })
	case Start:
		sb := *have.Sandbox
		w.spawn(act.Key(), func() func(*worker) { return w.a.startContainer(ctx, pod, sb, have.IP, act) })
	case StopIt:
		w.have.Stops[act.ID] = Stop{At: time.Now(), Grace: act.Grace}
		cfg := w.config(act.ID)
		w.spawn(act.Key(), func() func(*worker) { w.a.stopContainer(ctx, pod, cfg, have.IP, act); return nil })
	case Kill:
		s := w.have.Stops[act.ID]
		s.Killed = true
		w.have.Stops[act.ID] = s
		w.spawn(act.Key(), func() func(*worker) { w.a.signal(ctx, act.ID, unix.SIGKILL); return nil })
	case Probe:
		w.probe(ctx, act)
	case Remove:
		w.spawn(act.Key(), func() func(*worker) {
			if err := w.a.edges.Runtime.Remove(ctx, act.ID); err != nil {
				w.a.cfg.Log.Warn("cannot remove an ended container", "container", act.Name, "err", err)
			}
			return nil
		})
	case Teardown:
		w.spawn(act.Key(), func() func(*worker) { return w.a.teardown(ctx, pod) })
	case Delete:
		w.spawn(act.Key(), func() func(*worker) { return w.a.deleteObject(ctx, pod) })
	}
}

func (w *worker) config(id string) runtime.ContainerConfig {
	for _, c := range w.have.Containers {
		if c.Config.ID == id {
			return c.Config
		}
	}
	return runtime.ContainerConfig{ID: id}
}

func (a *Agent) volumes(pod *corev1.Pod, sb runtime.Sandbox, ip string) volume.Pod {
	p := pod
	if p.Status.HostIP == "" {
		p = pod.DeepCopy()
		p.Status.HostIP = a.cfg.InternalIP().String()
	}
	return volume.Pod{Pod: p, Dir: sb.Dir, IP: ip, Get: a.objects}
}

// setup makes what the pod's containers share. It may be repeated.
func (a *Agent) setup(ctx context.Context, pod *corev1.Pod) func(*worker) {
	release := a.acquire(ctx)
	defer release()
	sb, ip, err := a.makeSandbox(ctx, pod)
	return func(w *worker) {
		if err == nil {
			w.have.Sandbox, w.have.Set, w.have.IP = &sb, true, ip
			w.refreshed = time.Now()
			delete(w.have.Waiting, "")
			w.checkpoint()
			return
		}
		if ctx.Err() != nil {
			return
		}
		old := w.have.Waiting[""]
		wait := min(250*time.Millisecond<<min(old.Tries, 6), 10*time.Second)
		w.have.Waiting[""] = Waiting{Message: err.Error(), Until: time.Now().Add(wait), Tries: old.Tries + 1}
		if old.Message != err.Error() {
			reason := "FailedCreatePodSandBox"
			var ce *volume.ConfigError
			if errors.As(err, &ce) {
				reason = "FailedMount"
			}
			a.events.tell(pod, "", corev1.EventTypeWarning, reason, "%s", err)
		}
	}
}

func (a *Agent) makeSandbox(ctx context.Context, pod *corev1.Pod) (runtime.Sandbox, string, error) {
	host := hostname(pod, a.cfg.NodeName)
	sc := runtime.SandboxConfig{PodUID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, Hostname: host,
		HostNetwork: pod.Spec.HostNetwork, HostIPC: pod.Spec.HostIPC, QoS: cgroupBranch(QOSClass(pod)), Resources: podResources(pod)}
	if s := pod.Spec.SetHostnameAsFQDN; s != nil && *s && pod.Spec.Subdomain != "" {
		sc.Hostname = fmt.Sprintf("%s.%s.%s.svc.%s", host, pod.Spec.Subdomain, pod.Namespace, a.cfg.ClusterDomain)
	}
	sb, err := a.edges.Runtime.CreateSandbox(ctx, sc)
	if err != nil {
		return sb, "", err
	}
	ip := a.cfg.InternalIP().String()
	if !pod.Spec.HostNetwork {
		addr, err := a.edges.Network.Attach(ctx, string(pod.UID), sb.NetNS)
		if err != nil {
			return sb, "", err
		}
		ip = addr.String()
	}
	v := a.volumes(pod, sb, ip)
	if err := v.Etc(volume.DNS{Server: a.cfg.ClusterDNS.String(), Domain: a.cfg.ClusterDomain}, host); err != nil {
		return sb, ip, err
	}
	return sb, ip, v.Setup(ctx)
}

// startContainer starts one attempt and tells how it went.
func (a *Agent) startContainer(ctx context.Context, pod *corev1.Pod, sb runtime.Sandbox, ip string, act Action) func(*worker) {
	release := a.acquire(ctx)
	defer release()
	c := findContainer(pod, act.Name)
	if c == nil {
		return nil
	}
	cfg, err := a.containerConfig(ctx, pod, c, sb, ip, act)
	if err == nil {
		a.events.tell(pod, c.Name, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
		a.podLog(pod).Info("image pulled", "container", c.Name, "image", c.Image)
		if act.Attempt > 0 { // what an attempt that was cut off has left
			_ = a.edges.Runtime.Remove(ctx, cfg.ID)
		}
		_, err = a.edges.Runtime.Start(ctx, cfg)
	}
	if err == nil {
		a.events.tell(pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
		a.events.tell(pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
		a.podLog(pod).Info("container started", "container", c.Name, "attempt", act.Attempt)
		return func(w *worker) {
			delete(w.have.Waiting, c.Name)
			w.postStart(ctx, c, cfg.ID, ip)
		}
	}
	return func(w *worker) {
		if ctx.Err() == nil {
			w.notStarted(c, err)
		}
	}
}

// postStart runs a container's hook beside it; until it has ended the container is not ready, and if it fails the container is
// stopped, and the restart policy goes on from there.
func (w *worker) postStart(ctx context.Context, c *corev1.Container, id, ip string) {
	if !hasPostStart(c) {
		return
	}
	pod := w.pod
	w.spawn(postStartKey(c.Name), func() func(*worker) {
		err := w.a.hook(ctx, id, c, ip, c.Lifecycle.PostStart)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		w.a.events.tell(pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", err)
		return func(w *worker) {
			if _, stopping := w.have.Stops[id]; stopping {
				return
			}
			w.begin(ctx, Action{Verb: StopIt, Name: c.Name, ID: id, Grace: gracePeriod(w.pod, nil), Reason: "FailedPostStartHook"})
			stop := w.have.Stops[id]
			stop.Unready = true
			w.have.Stops[id] = stop
		}
	})
}

func (w *worker) notStarted(c *corev1.Container, err error) {
	old := w.have.Waiting[c.Name]
	wait := Waiting{Reason: "CreateContainerError", Message: err.Error(), Until: time.Now().Add(2 * time.Second), Tries: old.Tries + 1}
	var f *startFault
	var se *runtime.StartError
	switch {
	case errors.As(err, &f):
		wait.Reason, wait.Until = f.reason, time.Now().Add(f.retry)
	case errors.As(err, &se):
		// The runtime keeps it as an ended attempt: the restart policy and its back-off go on from there.
		delete(w.have.Waiting, c.Name)
		w.a.events.tell(w.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: %s", se.Message)
		return
	}
	fault := wait.Message
	if wait.Reason == errImagePull && (old.Reason == errImagePull || old.Reason == imagePullBackOff) {
		wait.Reason, wait.Message = imagePullBackOff, fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, errImagePull, fault)
	}
	w.have.Waiting[c.Name] = wait
	if old.Message != wait.Message {
		w.a.podLog(w.pod).Warn("cannot start a container, trying again", "container", c.Name, "err", wait.Message)
		w.tellFault(c, wait.Reason, fault)
	}
}

// tellFault tells in a kubelet's words why a container was not started.
func (w *worker) tellFault(c *corev1.Container, reason, fault string) {
	tell := func(kind, event, format string, args ...any) {
		w.a.events.tell(w.pod, c.Name, kind, event, format, args...)
	}
	switch reason {
	case errImagePull:
		tell(corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
		tell(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", c.Image, fault)
	case imagePullBackOff:
		tell(corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", c.Image)
	case errImageNeverPull:
		tell(corev1.EventTypeWarning, errImageNeverPull, "%s", fault)
	default:
		tell(corev1.EventTypeWarning, "Failed", "Error: %s", fault)
		return
	}
	tell(corev1.EventTypeWarning, "Failed", "Error: %s", reason)
}

// tellRestarts tells of each ended attempt once that its restart waits.
func (w *worker) tellRestarts(now time.Time) {
	if len(w.told) > len(w.have.Containers) {
		maps.DeleteFunc(w.told, func(id string, _ bool) bool {
			return !slices.ContainsFunc(w.have.Containers, func(c runtime.Container) bool { return c.Config.ID == id })
		})
	}
	for _, act := range w.have.Containers {
		c := findContainer(w.pod, act.Config.Name)
		if c == nil || w.told[act.Config.ID] || !waitsToRestart(w.pod, w.have, c, now) || latest(w.have, c.Name).Config.ID != act.Config.ID {
			continue
		}
		w.told[act.Config.ID] = true
		w.a.events.tell(w.pod, c.Name, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.pod.Name, w.pod.Namespace, w.pod.UID)
	}
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// stopContainer runs preStop within the grace period, then sends the stop signal.
func (a *Agent) stopContainer(ctx context.Context, pod *corev1.Pod, cfg runtime.ContainerConfig, ip string, act Action) {
	a.events.tell(pod, act.Name, corev1.EventTypeNormal, "Killing", "%s", killing(act))
	c := findContainer(pod, act.Name)
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && act.Grace > 0 {
		hctx, cancel := context.WithTimeout(ctx, act.Grace)
		if err := a.hook(hctx, cfg.ID, c, ip, c.Lifecycle.PreStop); err != nil {
			a.events.tell(pod, act.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
		cancel()
	}
	sig := unix.SIGTERM
	if n, err := strconv.Atoi(cfg.StopSignal); err == nil && n > 0 {
		sig = unix.Signal(n)
	} else if s := unix.SignalNum(cfg.StopSignal); s != 0 {
		sig = s
	}
	a.signal(ctx, cfg.ID, sig)
}

func killing(act Action) string {
	if act.Reason == "" || act.Reason == "Stopping container" {
		return "Stopping container " + act.Name
	}
	return act.Reason
}

func (a *Agent) signal(ctx context.Context, id string, sig unix.Signal) {
	if err := a.edges.Runtime.Signal(ctx, id, sig); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		a.cfg.Log.Warn("cannot signal a container", "container", id, "signal", sig, "err", err)
	}
}

// hook runs a lifecycle handler.
func (a *Agent) hook(ctx context.Context, id string, c *corev1.Container, ip string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		code, out, err := a.execOutput(ctx, id, h.Exec.Command)
		if err == nil && code != 0 {
			err = fmt.Errorf("command %q exited with %d: %s", strings.Join(h.Exec.Command, " "), code, out)
		}
		return err
	case h.HTTPGet != nil:
		return probe.Do(ctx, &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: h.HTTPGet}, TimeoutSeconds: 30}, probe.Target{PodIP: ip, Container: c})
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}

// execOutput runs a command in a container and returns the head of what it wrote.
func (a *Agent) execOutput(ctx context.Context, id string, command []string) (int, string, error) {
	var out limited
	code, err := a.edges.Runtime.Exec(ctx, id, runtime.ExecConfig{Args: command, Streams: runtime.Streams{Stdout: &out, Stderr: &out}})
	return code, out.buf.String(), err
}

// limited keeps the first 10 KiB of what is written. It is not written to from two goroutines at once but by two streams in
// turn, so it locks.
type limited struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b[:min(len(b), max(0, 10<<10-l.buf.Len()))])
	return len(b), nil
}

// probe asks once and counts the answer.
func (w *worker) probe(ctx context.Context, act Action) {
	c := findContainer(w.pod, act.Name)
	p := map[probe.Kind]*corev1.Probe{probe.Startup: c.StartupProbe, probe.Liveness: c.LivenessProbe, probe.Readiness: c.ReadinessProbe}[act.Kind]
	var begun time.Time
	for _, rc := range w.have.Containers {
		if rc.Config.ID == act.ID {
			begun = rc.Started
		}
	}
	t := probe.Target{PodIP: w.have.IP, Container: c, Exec: func(ctx context.Context, command []string) (int, string, error) {
		return w.a.execOutput(ctx, act.ID, command)
	}}
	w.spawn(act.Key(), func() func(*worker) {
		err := probe.Do(ctx, p, t)
		if ctx.Err() != nil {
			return nil
		}
		return func(w *worker) {
			key := ProbeKey{act.ID, act.Kind}
			next, _, _ := probe.Observe(p, act.Kind, w.have.Probes[key], begun, time.Now(), err)
			if err != nil && next.Failures > w.have.Probes[key].Failures && time.Since(begun) > time.Second {
				w.a.events.tell(w.pod, c.Name, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %v", act.Kind, err)
			}
			w.have.Probes[key] = next
		}
	})
}

// teardown removes all of a pod from the machine: containers, network, namespaces, volumes, logs.
func (a *Agent) teardown(ctx context.Context, pod *corev1.Pod) func(*worker) {
	tctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := a.clear(tctx, string(pod.UID), a.logDir(pod))
	return func(w *worker) {
		if err != nil {
			w.a.podLog(pod).Warn("cannot remove a pod from the machine, trying again", "err", err)
			time.AfterFunc(retryInterval, w.notify)
			return
		}
		w.a.podLog(pod).Info("pod stopped")
		w.have.Gone, w.have.Set, w.have.Sandbox = true, false, nil
	}
}

func (a *Agent) clear(ctx context.Context, uid, logs string) error {
	err := errors.Join(a.edges.Network.Detach(ctx, uid), a.edges.Runtime.RemoveSandbox(ctx, uid))
	if logs != "" {
		err = errors.Join(err, os.RemoveAll(logs))
	}
	return err
}

// deleteObject removes the pod's object now that nothing of it is left.
func (a *Agent) deleteObject(ctx context.Context, pod *corev1.Pod) func(*worker) {
	dctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.cfg.Sink.Delete(dctx, object.KeyOf(pod), string(pod.UID))
	return func(w *worker) {
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			w.deleted = true
			return
		}
		w.retry = time.Now().Add(retryInterval)
		a.cfg.Log.Debug("cannot delete a pod's object, trying again", "pod", pod.Name, "err", err)
		w.notify()
	}
}

// acquire waits for a place among the starts that may run at once.
func (a *Agent) acquire(ctx context.Context) (release func()) {
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }
	case <-ctx.Done():
		return func() {}
	}
}
