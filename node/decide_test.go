package node

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"reconcile/node/probe"
	"reconcile/node/runtime"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// script drives Decide and Status by the lines of testdata/decide/*.txt; see the files.
type script struct {
	pod  *corev1.Pod
	have Have
	now  time.Time
}

func newScript() *script {
	return &script{now: epoch, have: Have{Probes: map[ProbeKey]probe.State{}, Waiting: map[string]Waiting{}, Stops: map[string]Stop{}, Busy: map[string]bool{}}}
}

func TestDecide(t *testing.T) {
	datadriven.Walk(t, "testdata/decide", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.command(t, d) })
	})
}

func (s *script) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "pod":
		*s = *newScript()
		s.newPod(d)
		return ""
	case "sandbox":
		s.have.Sandbox = &runtime.Sandbox{Alive: true, Created: s.now}
		s.have.Set, s.have.IP = true, "10.244.0.2"
		return ""
	case "reboot":
		s.have.Sandbox, s.have.Set = nil, false
		for i := range s.have.Containers {
			s.end(i, 255, "Rebooted")
		}
	case "container": // container NAME ATTEMPT: it runs from now on
		s.addContainer(d)
	case "exit": // exit NAME CODE [oom]
		for i := range s.have.Containers {
			if c := &s.have.Containers[i]; c.Config.Name == d.CmdArgs[0].Key && c.State == runtime.Running {
				code, _ := strconv.Atoi(d.CmdArgs[1].Key)
				s.end(i, code, "")
				c.Exit.OOMKilled = d.HasArg("oom")
			}
		}
	case "answer": // answer NAME KIND ok|FAILURE
		s.answer(d)
	case "waiting": // waiting NAME REASON
		s.have.Waiting[d.CmdArgs[0].Key] = Waiting{Reason: d.CmdArgs[1].Key, Message: "because", Until: s.now.Add(2 * time.Second)}
	case "delete":
		now := metav1.NewTime(s.now)
		s.pod.DeletionTimestamp = &now
	case "reported": // reported PHASE: the server has the status with it
		s.pod.Status.Phase = corev1.PodPhase(d.CmdArgs[0].Key)
	case "orphan":
		s.have.Orphan = true
	case "gone":
		s.have.Gone, s.have.Set, s.have.Sandbox, s.have.Containers = true, false, nil, nil
	case "busy":
		s.have.Busy[d.CmdArgs[0].Key] = true
	case "wait":
		w, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(w)
	case "status":
		return s.status()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return s.decide()
}

func (s *script) newPod(d *datadriven.TestData) {
	grace := int64(30)
	s.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: types.UID("u")},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace}}
	for _, l := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(l)
		switch f[0] {
		case "held":
			s.pod.Finalizers = []string{"example.com/hold"}
		case "restart":
			s.pod.Spec.RestartPolicy = corev1.RestartPolicy(f[1])
		case "container", "init":
			c := corev1.Container{Name: f[1], Image: "img"}
			for _, o := range f[2:] {
				p := &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 3, SuccessThreshold: 1}
				switch o {
				case "readiness":
					c.ReadinessProbe = p
				case "liveness":
					p.FailureThreshold = 1
					c.LivenessProbe = p
				case "startup":
					c.StartupProbe = p
				case "sidecar":
					always := corev1.ContainerRestartPolicyAlways
					c.RestartPolicy = &always
				}
			}
			if f[0] == "init" {
				s.pod.Spec.InitContainers = append(s.pod.Spec.InitContainers, c)
			} else {
				s.pod.Spec.Containers = append(s.pod.Spec.Containers, c)
			}
		}
	}
}

func (s *script) addContainer(d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	attempt, _ := strconv.Atoi(d.CmdArgs[1].Key)
	next := time.Duration(0)
	for _, c := range s.have.Containers {
		if c.Config.Name == name && c.Config.Attempt == attempt-1 {
			_, next = backoff(c)
		}
	}
	s.have.Containers = append(s.have.Containers, runtime.Container{State: runtime.Running, PID: 7, Started: s.now,
		Config: runtime.ContainerConfig{ID: name + "-" + strconv.Itoa(attempt), Name: name, Attempt: attempt, PodUID: "u", Labels: map[string]string{labelBackoff: next.String()}}})
}

func (s *script) end(i, code int, reason string) {
	c := &s.have.Containers[i]
	if c.State == runtime.Running {
		c.State, c.Exit = runtime.Exited, &runtime.Exit{Code: code, Started: c.Started, Finished: s.now, Reason: reason}
	}
}

func (s *script) answer(d *datadriven.TestData) {
	name, kind := d.CmdArgs[0].Key, probe.Kind(d.CmdArgs[1].Key)
	c := findContainer(s.pod, name)
	p := map[probe.Kind]*corev1.Probe{probe.Startup: c.StartupProbe, probe.Liveness: c.LivenessProbe, probe.Readiness: c.ReadinessProbe}[kind]
	var err error
	if d.CmdArgs[2].Key != "ok" {
		err = fmt.Errorf("%s", d.CmdArgs[2].Key)
	}
	l := newest(s.have, name)
	key := ProbeKey{l.Config.ID, kind}
	s.have.Probes[key], _, _ = probe.Observe(p, kind, s.have.Probes[key], l.Started, s.now, err)
}

// decide prints the actions; those that change what stands are done at once where that needs no machine.
func (s *script) decide() string {
	actions, wake := Decide(s.pod, s.have, s.now)
	var b strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&b, "%s", a.Verb)
		if a.Name != "" {
			fmt.Fprintf(&b, " %s", a.Name)
		}
		switch a.Verb {
		case Start:
			fmt.Fprintf(&b, " attempt=%d", a.Attempt)
			if a.Backoff > 0 {
				fmt.Fprintf(&b, " next-backoff=%s", a.Backoff)
			}
		case StopIt:
			fmt.Fprintf(&b, " grace=%s (%s)", a.Grace, a.Reason)
			s.have.Stops[a.ID] = Stop{At: s.now, Grace: a.Grace}
		case Kill:
			x := s.have.Stops[a.ID]
			x.Killed = true
			s.have.Stops[a.ID] = x
		case Probe:
			fmt.Fprintf(&b, " %s", a.Kind)
		case Remove:
			fmt.Fprintf(&b, " %s", a.ID)
		}
		b.WriteString("\n")
	}
	if !wake.IsZero() {
		fmt.Fprintf(&b, "look again in %s\n", wake.Sub(s.now))
	}
	if b.Len() == 0 {
		return "nothing to do\n"
	}
	return b.String()
}

func (s *script) status() string {
	st := Status(s.pod, s.have, StatusInput{HostIP: "192.0.2.1", Now: s.now, Start: epoch})
	var b strings.Builder
	fmt.Fprintf(&b, "phase %s\n", st.Phase)
	sort.Slice(st.Conditions, func(i, j int) bool { return st.Conditions[i].Type < st.Conditions[j].Type })
	for _, c := range st.Conditions {
		fmt.Fprintf(&b, "%s=%s", c.Type, c.Status)
		if c.Reason != "" {
			fmt.Fprintf(&b, " %s", c.Reason)
		}
		if c.Message != "" {
			fmt.Fprintf(&b, ": %s", c.Message)
		}
		b.WriteString("\n")
	}
	for _, c := range append(st.InitContainerStatuses, st.ContainerStatuses...) {
		fmt.Fprintf(&b, "%s ready=%t started=%t restarts=%d %s", c.Name, c.Ready, *c.Started, c.RestartCount, state(c.State))
		if last := state(c.LastTerminationState); last != "" {
			fmt.Fprintf(&b, ", last %s", last)
		}
		b.WriteString("\n")
	}
	s.pod.Status = st
	return b.String()
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		out := "waiting " + s.Waiting.Reason
		if s.Waiting.Message != "" {
			out += ": " + s.Waiting.Message
		}
		return out
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated %s %d", s.Terminated.Reason, s.Terminated.ExitCode)
	}
	return ""
}

// TestDecideIsCalm: whatever stands, the same is not done twice at once, and what is under way is not begun again.
func TestDecideIsCalm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScript()
		s.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}, Spec: corev1.PodSpec{
			RestartPolicy: rapid.SampledFrom([]corev1.RestartPolicy{"Always", "OnFailure", "Never"}).Draw(t, "policy"),
			Containers:    []corev1.Container{{Name: "a"}, {Name: "b", LivenessProbe: &corev1.Probe{FailureThreshold: 1}}}, InitContainers: []corev1.Container{{Name: "i"}}}}
		if rapid.Bool().Draw(t, "sandbox") {
			s.have.Sandbox, s.have.Set = &runtime.Sandbox{Alive: true, Created: epoch}, true
		}
		for _, name := range []string{"i", "a", "b"} {
			for attempt := range rapid.IntRange(0, 3).Draw(t, "attempts "+name) {
				c := runtime.Container{Config: runtime.ContainerConfig{ID: fmt.Sprint(name, attempt), Name: name, Attempt: attempt}, State: runtime.Running, Started: epoch}
				if rapid.Bool().Draw(t, "exited") {
					c.State, c.Exit = runtime.Exited, &runtime.Exit{Code: rapid.IntRange(0, 1).Draw(t, "code"), Started: epoch, Finished: epoch}
				}
				s.have.Containers = append(s.have.Containers, c)
			}
		}
		if rapid.Bool().Draw(t, "deleted") {
			s.pod.DeletionTimestamp = &metav1.Time{Time: epoch}
		}
		s.now = epoch.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
		actions, _ := Decide(s.pod, s.have, s.now)
		seen := map[string]bool{}
		for _, a := range actions {
			if seen[a.Key()] {
				t.Fatalf("%s is decided twice", a.Key())
			}
			seen[a.Key()] = true
			s.have.Busy[a.Key()] = true
			if a.Verb == Start {
				for _, c := range s.have.Containers {
					if c.Config.Name == a.Name && (c.State == runtime.Running && c.Config.Attempt == newest(s.have, a.Name).Config.Attempt || c.Config.Attempt >= a.Attempt) {
						t.Fatalf("attempt %d of %s is started beside %+v", a.Attempt, a.Name, c.Config)
					}
				}
				if s.pod.DeletionTimestamp != nil {
					t.Fatal("a container of a deleted pod is started")
				}
			}
			if a.Verb == Teardown {
				for _, c := range s.have.Containers {
					if c.State == runtime.Running {
						t.Fatal("the pod is torn down while a container runs")
					}
				}
			}
		}
		again, _ := Decide(s.pod, s.have, s.now)
		for _, a := range again {
			if seen[a.Key()] {
				t.Fatalf("%s is begun again while it is under way", a.Key())
			}
		}
		Status(s.pod, s.have, StatusInput{Now: s.now})
	})
}
