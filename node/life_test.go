package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reconcile/node/stream"
)

// scratch gives a pod an emptyDir at /scratch of its first container.
func scratch(p *corev1.Pod, limit string) {
	e := &corev1.EmptyDirVolumeSource{}
	if limit != "" {
		q := resource.MustParse(limit)
		e.SizeLimit = &q
	}
	p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: e}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
}

func execHook(args ...string) *corev1.Lifecycle {
	return &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: append([]string{"/app"}, args...)}}}
}

// TestPostStart: a container is not ready before its hook has ended, and one whose hook fails is stopped and started again.
func TestPostStart(t *testing.T) {
	l := newLab(t)
	good := pod("good", container("c", "sleep"))
	scratch(good, "")
	good.Spec.Containers[0].Lifecycle = execHook("write", "/scratch/made", "by the hook")
	l.server.Put(good)
	l.ready("good")
	// It is there as soon as the pod is ready: nothing is waited for here.
	if out, _ := l.exec("good", "c", "cat", "/scratch/made"); out != "by the hook" {
		t.Errorf("the hook left %q", out)
	}
	bad := pod("bad", container("c", "sleep"))
	bad.Spec.Containers[0].Lifecycle = execHook("exit", "3")
	l.server.Put(bad)
	l.eventually("the container is started again", func() bool {
		s := l.server.Pod("default", "bad").Status.ContainerStatuses
		return len(s) == 1 && s[0].RestartCount > 0
	})
	if isReady(l.server.Pod("default", "bad")) {
		t.Error("a pod whose hook fails is ready")
	}
	l.eventually("the event", func() bool { return slices.Contains(l.server.Events("bad"), "FailedPostStartHook") })
}

// TestMessageFromLog: the end of the output explains a failure where the container left no message.
func TestMessageFromLog(t *testing.T) {
	l := newLab(t)
	for policy, want := range map[corev1.TerminationMessagePolicy]string{corev1.TerminationMessageReadFile: "", corev1.TerminationMessageFallbackToLogsOnError: "guest: unknown verb \"nonsense\"\n"} {
		p := pod(strings.ToLower(string(policy)), container("c", "nonsense"))
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Containers[0].TerminationMessagePolicy = policy
		l.server.Put(p)
		l.eventually(p.Name+" has failed", func() bool { return l.server.Pod("default", p.Name).Status.Phase == corev1.PodFailed })
		if got := l.server.Pod("default", p.Name).Status.ContainerStatuses[0].State.Terminated; got.Message != want || got.ExitCode != 1 {
			t.Errorf("%s: %+v, want the message %q", policy, got, want)
		}
	}
}

// TestSizeLimit evicts a pod whose emptyDir on disk holds more than it may, and no other.
func TestSizeLimit(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"modest", "greedy"} {
		p := pod(name, container("c", "sleep"))
		scratch(p, "1Mi")
		l.server.Put(p)
		l.ready(name)
	}
	l.exec("modest", "c", "write", "/scratch/f", strings.Repeat("x", 1000))
	for i := range 20 {
		// A slow machine evicts it before it has written the last.
		_, _ = l.agent.Exec(t.Context(), "default", "greedy", "c", []string{"/app", "write", fmt.Sprintf("/scratch/%d", i), strings.Repeat("x", 100_000)}, stream.Streams{})
	}
	l.eventually("greedy is evicted", func() bool { return l.server.Pod("default", "greedy").Status.Phase == corev1.PodFailed })
	s := l.server.Pod("default", "greedy").Status
	if s.Reason != "Evicted" || s.Message != `Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". ` {
		t.Errorf("status %s: %s", s.Reason, s.Message)
	}
	l.eventually("its container has ended", func() bool {
		s := l.server.Pod("default", "greedy").Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil
	})
	l.eventually("the event", func() bool { return slices.Contains(l.server.Events("greedy"), "Evicted") })
	if !isReady(l.server.Pod("default", "modest")) {
		t.Error("modest is no longer ready")
	}
	l.stop()
	l.start()
	l.ready("modest")
	if s := l.server.Pod("default", "greedy").Status; s.Phase != corev1.PodFailed || s.Reason != "Evicted" {
		t.Errorf("after the agent's restart: %s %s", s.Phase, s.Reason)
	}
}

// TestFSGroup: what a pod writes into an emptyDir belongs to its fsGroup, whoever writes it.
func TestFSGroup(t *testing.T) {
	l := newLab(t)
	user, group := int64(1000), int64(2000)
	p := pod("grouped", container("c", "sleep"))
	scratch(p, "")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}
	l.server.Put(p)
	l.ready("grouped")
	l.exec("grouped", "c", "write", "/scratch/f", "x")
	if out, _ := l.exec("grouped", "c", "stat", "/scratch/f"); !strings.HasSuffix(out, "1000 2000") {
		t.Errorf("the file is of %q, want user 1000 and group 2000", out)
	}
}
