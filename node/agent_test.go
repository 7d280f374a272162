package node_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/node"
	"reconcile/node/image"
	"reconcile/node/nodetest"
	"reconcile/node/runtime"
	"reconcile/node/runtime/runtimetest"
	"reconcile/node/stream"
	"reconcile/object"
)

// lab is an agent on this machine with its own bridge, folders and cgroups, and a server in memory.
type lab struct {
	t      testing.TB
	cfg    node.Config
	server *nodetest.Server
	edges  node.Edges
	agent  *node.Agent
	cancel context.CancelFunc
	done   chan error
	log    logBuffer
}

// logBuffer keeps what the agent logs, and shows it in the test's output.
type logBuffer struct {
	t   testing.TB
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(b []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(b))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// has tells whether one line holds all parts.
func (l *logBuffer) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(strings.Split(l.buf.String(), "\n"), func(line string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
	})
}

func newLab(t testing.TB) *lab {
	t.Helper()
	runtimetest.NeedsRoot(t)
	name := fmt.Sprintf("ag%d-%d", os.Getpid()%100000, time.Now().UnixNano()%1000)
	run, err := os.MkdirTemp("/run", name+"-")
	if err != nil {
		t.Fatal(err)
	}
	octet := os.Getpid() % 200
	l := &lab{t: t, server: nodetest.NewServer(), log: logBuffer{t: t}}
	l.cfg = node.Config{NodeName: "n1", Root: t.TempDir(), RunDir: run, CgroupPrefix: "/" + name, Bridge: name, Masquerade: true,
		Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
		ClusterCIDR: netip.MustParsePrefix("10.233.0.0/16"), LeaseInterval: 200 * time.Millisecond,
		Source: l.server, Sink: l.server, Log: slog.New(slog.NewTextHandler(&l.log, nil))}
	store, err := image.Open(image.Config{Root: filepath.Join(l.cfg.Root, "images")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Build(context.Background(), "guest:1", runtimetest.BuildGuest(t), image.BuildOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := node.ResetMachine(ctx, l.cfg); err != nil {
			t.Errorf("reset: %v", err)
		}
		runtimetest.NothingLeft(t, runtime.Config{Root: l.cfg.Root, RunDir: l.cfg.RunDir, CgroupPrefix: l.cfg.CgroupPrefix})
		if out, _ := exec.Command("ip", "link", "show", "dev", l.cfg.Bridge).CombinedOutput(); !strings.Contains(string(out), "does not exist") {
			t.Errorf("the bridge is left: %s", out)
		}
	})
	l.start()
	l.eventually("the node is registered", func() bool { return l.server.Writes("create nodes") > 0 })
	o, err := l.server.Get(context.Background(), object.Key{Resource: "nodes", Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	n := o.(*corev1.Node)
	n.Spec.PodCIDR = fmt.Sprintf("10.233.%d.0/24", octet)
	l.server.Put(n)
	return l
}

func (l *lab) start() {
	l.t.Helper()
	var err error
	if l.edges, err = node.OpenEdges(l.cfg); err != nil {
		l.t.Fatal(err)
	}
	if l.agent, err = node.New(l.cfg, l.edges); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan error, 1)
	agent, done := l.agent, l.done
	go func() { done <- agent.Run(ctx) }()
}

func (l *lab) stop() {
	if l.cancel == nil {
		return
	}
	l.cancel()
	if err := <-l.done; err != nil {
		l.t.Errorf("Run: %v", err)
	}
	if err := l.edges.Runtime.Close(); err != nil {
		l.t.Error(err)
	}
	l.cancel = nil
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	runtimetest.Eventually(l.t, what, ok)
}

func pod(name string, containers ...corev1.Container) *corev1.Pod {
	zero := int64(1)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &zero, Containers: containers}}
	return p
}

func container(name string, args ...string) corev1.Container {
	return corev1.Container{Name: name, Image: "guest:1", Args: args, ImagePullPolicy: corev1.PullIfNotPresent}
}

func isReady(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (l *lab) ready(name string) *corev1.Pod {
	l.t.Helper()
	l.eventually(name+" is ready", func() bool { return isReady(l.server.Pod("default", name)) })
	return l.server.Pod("default", name)
}

func (l *lab) exec(pod, ctr string, args ...string) (string, int) {
	l.t.Helper()
	var out bytes.Buffer
	code, err := l.agent.Exec(context.Background(), "default", pod, ctr, append([]string{"/app"}, args...), stream.Streams{Stdout: &out})
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), code
}

func httpProbe(path string) *corev1.Probe {
	// A busy machine may take longer than the second that is the default, and the container would be restarted for that.
	return &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 20, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080)}}}
}

func TestPodLife(t *testing.T) {
	l := newLab(t)
	l.server.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cm"}, Data: map[string]string{"k": "from the map"}})
	web := container("web", "serve", "8080")
	web.ReadinessProbe = httpProbe("/healthz")
	web.Env = []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Key: "k"}}}}
	web.VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}, {Name: "conf", MountPath: "/conf"}}
	side := container("side", "sleep")
	side.VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	p := pod("web", web, side)
	p.Annotations = map[string]string{object.AnnotationCommit: "0123456789abcdef0123456789abcdef01234567"}
	init := container("init", "write", "/scratch/made", "by init")
	init.VolumeMounts = side.VolumeMounts
	p.Spec.InitContainers = []corev1.Container{init}
	p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}}
	begun := time.Now()
	l.server.Put(p)
	got := l.ready("web")
	t.Logf("2 containers and an init container ready after %s, %d status writes", time.Since(begun).Round(time.Millisecond), l.server.Writes("status pods"))
	if got.Status.Phase != corev1.PodRunning || len(got.Status.ContainerStatuses) != 2 || got.Status.PodIP == "" || got.Status.InitContainerStatuses[0].State.Terminated.Reason != "Completed" {
		t.Errorf("status %+v", got.Status)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{{[]string{"env", "K"}, "from the map"}, {[]string{"cat", "/conf/k"}, "from the map"}, {[]string{"cat", "/scratch/made"}, "by init"}, {[]string{"host"}, "web"}, {[]string{"env", "KUBERNETES_SERVICE_HOST"}, "10.96.0.1"}} {
		if out, _ := l.exec("web", "web", tc.args...); out != tc.want {
			t.Errorf("%v: %q, want %q", tc.args, out, tc.want)
		}
	}
	if out, _ := l.exec("web", "side", "cat", "/etc/resolv.conf"); !strings.Contains(out, "nameserver 10.96.0.10") || !strings.Contains(out, "search default.svc.cluster.local svc.cluster.local cluster.local") || !strings.Contains(out, "ndots:5") {
		t.Errorf("resolv.conf %q", out)
	}
	var logs bytes.Buffer
	if err := l.agent.Logs(context.Background(), "default", "web", "web", stream.LogOptions{Tail: -1}, &logs); err != nil || logs.String() != "serving on 8080\n" {
		t.Errorf("logs %q, %v", logs.String(), err)
	}
	// A forwarded port comes out on the pod's loopback.
	conn, err := l.agent.Dial(context.Background(), "default", "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	if page, err := io.ReadAll(conn); err != nil || !strings.Contains(string(page), "hello from web") {
		t.Errorf("through the pod's loopback: %q, %v", page, err)
	}
	_ = conn.Close()
	if _, err := l.agent.Dial(context.Background(), "default", "web", 8081); err == nil {
		t.Error("a port that nobody listens on took a connection")
	}
	// Two pods reach each other.
	l.server.Put(pod("other", container("c", "sleep")))
	l.ready("other")
	if out, code := l.exec("other", "c", "get", "http://"+got.Status.PodIP+":8080/"); code != 0 || out != "hello from web" {
		t.Errorf("pod to pod: %q, %d", out, code)
	}
	// Readiness follows the probe.
	l.exec("web", "web", "mkdir-sick")
	l.eventually("web is unready", func() bool { return !isReady(l.server.Pod("default", "web")) })
	for _, reason := range []string{"Pulled", "Created", "Started", "Unhealthy"} {
		l.eventually("event "+reason, func() bool { return slices.Contains(l.server.Events("web"), reason) })
	}
	// Graceful end.
	now := metav1.Now()
	d := l.server.Pod("default", "web")
	d.DeletionTimestamp = &now
	l.server.Put(d)
	l.eventually("web is gone", func() bool { return l.server.Pod("default", "web") == nil })
	for _, what := range []string{"image pulled", "container started", "pod ready", "pod not ready", "pod stopped"} {
		l.eventually("the log says "+what, func() bool { return l.log.has(what, "pod=default/web", "commit=0123456789ab") })
	}
	list, _ := l.edges.Runtime.List(context.Background())
	for _, c := range list {
		if c.Config.PodUID == "uid-web" {
			t.Errorf("container %s is left", c.Config.Name)
		}
	}
}

func TestRestartsAndFaults(t *testing.T) {
	l := newLab(t)
	l.server.Put(pod("crash", container("c", "exit", "3")))
	l.eventually("crash backs off", func() bool {
		p := l.server.Pod("default", "crash")
		if len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		c := p.Status.ContainerStatuses[0]
		return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" && c.RestartCount == 1 && c.LastTerminationState.Terminated.ExitCode == 3
	})
	l.server.Put(pod("noimage", corev1.Container{Name: "c", Image: "missing:1", ImagePullPolicy: corev1.PullNever}))
	c := container("c", "sleep")
	c.EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}}}
	l.server.Put(pod("nosecret", c))
	nocmd := container("c")
	nocmd.Command = []string{"/nothing"}
	l.server.Put(pod("nocmd", nocmd))
	for name, want := range map[string]string{"noimage": "ErrImageNeverPull", "nosecret": "CreateContainerConfigError"} {
		l.eventually(name+" says "+want, func() bool {
			p := l.server.Pod("default", name)
			return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == want
		})
	}
	l.eventually("nocmd tells a StartError", func() bool {
		p := l.server.Pod("default", "nocmd")
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil && p.Status.ContainerStatuses[0].LastTerminationState.Terminated.Reason == "StartError"
	})
	l.server.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "absent"}})
	l.ready("nosecret")
	job := pod("job", container("c", "echo", "done"))
	job.Spec.RestartPolicy = corev1.RestartPolicyNever
	l.server.Put(job)
	l.eventually("job succeeded", func() bool { return l.server.Pod("default", "job").Status.Phase == corev1.PodSucceeded })
	sick := container("c", "serve", "8080")
	sick.LivenessProbe = httpProbe("/healthz")
	sick.LivenessProbe.FailureThreshold = 1
	l.server.Put(pod("sick", sick))
	l.ready("sick")
	l.exec("sick", "c", "mkdir-sick")
	l.eventually("sick was restarted", func() bool {
		s := l.server.Pod("default", "sick").Status.ContainerStatuses
		return len(s) == 1 && s[0].RestartCount == 1 && s[0].State.Running != nil
	})
}

func TestAgentRestartTouchesNothing(t *testing.T) {
	l := newLab(t)
	web := container("web", "serve", "8080")
	web.ReadinessProbe = httpProbe("/healthz")
	l.server.Put(pod("web", web))
	before := l.ready("web")
	l.server.Put(pod("ends", container("c", "sleep")))
	ends := l.ready("ends")
	l.stop()
	l.server.SetAway(true)
	// Meanwhile one of its containers ends.
	id := strings.TrimPrefix(ends.Status.ContainerStatuses[0].ContainerID, "reconcile://")
	if err := l.edges.Runtime.Signal(context.Background(), id, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.start()
	// The server is away: the container that ended is started again all the same.
	l.eventually("the ended container runs again", func() bool {
		list, err := l.edges.Runtime.List(context.Background())
		return err == nil && slices.ContainsFunc(list, func(c runtime.Container) bool {
			return c.Config.PodUID == "uid-ends" && c.Config.Attempt == 1 && c.State == runtime.Running
		})
	})
	l.server.SetAway(false)
	l.eventually("the restart is reported", func() bool {
		s := l.server.Pod("default", "ends").Status.ContainerStatuses
		return len(s) == 1 && s[0].RestartCount == 1 && s[0].LastTerminationState.Terminated != nil && s[0].LastTerminationState.Terminated.ExitCode == 137
	})
	after := l.ready("web")
	if a, b := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || b.RestartCount != 0 || before.Status.PodIP != after.Status.PodIP {
		t.Errorf("the agent's restart changed the pod: %+v, %+v", a, b)
	}
}

// BenchmarkStart measures from the pods' appearance to all ready, with an http readiness probe.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1, 3, 30} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLab(b)
			for i := range b.N {
				begun := time.Now()
				for j := range n {
					web := container("web", "serve", "8080")
					web.ReadinessProbe = httpProbe("/healthz")
					l.server.Put(pod(fmt.Sprintf("w-%d-%d", i, j), web))
				}
				for j := range n {
					l.ready(fmt.Sprintf("w-%d-%d", i, j))
				}
				b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms/ready")
				b.StopTimer()
				for j := range n {
					l.server.Remove(object.Key{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("w-%d-%d", i, j)})
				}
				l.eventually("all are gone", func() bool { list, _ := l.edges.Runtime.List(context.Background()); return len(list) == 0 })
				b.StartTimer()
			}
		})
	}
}
