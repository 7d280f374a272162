package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node/runtime"
)

// containerPrefix begins every container ID that is shown.
const containerPrefix = "reconcile://"

// Reasons in the status of a pod that the node ended or never began.
const (
	reasonEvicted  = "Evicted"
	reasonPorts    = "NodePorts"
	reasonDeadline = "DeadlineExceeded"
)

// Phase is a pod's phase as Kubernetes computes it. Once ended a pod stays so.
func Phase(pod *corev1.Pod, have Have) corev1.PodPhase {
	if p := pod.Status.Phase; p == corev1.PodSucceeded || p == corev1.PodFailed {
		return p
	}
	if have.Evicted != "" {
		return corev1.PodFailed
	}
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		for _, c := range pod.Spec.InitContainers {
			if l := latest(have, c.Name); l != nil && l.State == runtime.Exited && l.Exit.Code != 0 && !isSidecar(&c) {
				return corev1.PodFailed
			}
		}
	}
	running, waiting, good, bad := 0, 0, 0, 0
	// One that is deleted, and that somebody holds to see how it ends, starts nothing again: what has stopped has ended.
	held := Held(pod)
	for _, c := range pod.Spec.Containers {
		l := latest(have, c.Name)
		switch {
		case held && (l == nil || l.State != runtime.Running):
			if l != nil && l.Exit.Code == 0 {
				good++
			} else {
				bad++
			}
		case l == nil:
			if newest(have, c.Name) == nil {
				waiting++
			} else {
				running++ // it ran before a reboot and will again
			}
		case l.State == runtime.Running || restarts(pod.Spec.RestartPolicy, l.Exit.Code):
			running++
		case l.Exit.Code == 0:
			good++
		default:
			bad++
		}
	}
	switch {
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case bad > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// Held tells whether a pod that is being deleted stays in the store until somebody who holds it by a finalizer has seen its end, as a Job
// does. Its last status must tell the end before anything of it is removed.
func Held(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil && len(pod.Finalizers) > 0 }

// StatusInput is what a status says beyond what stands of the pod.
type StatusInput struct {
	HostIP string
	Now    time.Time
	// Start is when the agent first saw the pod.
	Start time.Time
}

// Status is the pod's status as a kubelet would report it. What others own in it (other conditions) is kept; pod is not changed.
func Status(pod *corev1.Pod, have Have, in StatusInput) corev1.PodStatus {
	s := *pod.Status.DeepCopy()
	s.Phase = Phase(pod, have)
	switch {
	case have.Evicted != "":
		s.Reason, s.Message = cmp.Or(have.Reason, reasonEvicted), have.Evicted
	case !ended(pod): // one that has ended keeps what was told of its end
		s.Reason, s.Message = "", ""
	}
	s.HostIP, s.HostIPs = in.HostIP, []corev1.HostIP{{IP: in.HostIP}}
	if have.IP != "" {
		s.PodIP, s.PodIPs = have.IP, []corev1.PodIP{{IP: have.IP}}
	}
	if s.StartTime == nil {
		t := metav1.NewTime(in.Start).Rfc3339Copy()
		s.StartTime = &t
	}
	s.QOSClass = QOSClass(pod)
	s.InitContainerStatuses = containerStatuses(pod, pod.Spec.InitContainers, have, s.InitContainerStatuses, true)
	s.ContainerStatuses = containerStatuses(pod, pod.Spec.Containers, have, s.ContainerStatuses, false)
	s.ObservedGeneration = pod.Generation
	conditions(&s, pod, have, in.Now)
	return s
}

func containerStatuses(pod *corev1.Pod, specs []corev1.Container, have Have, old []corev1.ContainerStatus, init bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range specs {
		c := &specs[i]
		st := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
		for _, o := range old { // what is no more on disk is remembered from the last report
			if o.Name == c.Name {
				st.RestartCount, st.LastTerminationState, st.ImageID = o.RestartCount, o.LastTerminationState, o.ImageID
			}
		}
		fillStatus(&st, pod, c, have, init)
		out = append(out, st)
	}
	return out
}

func fillStatus(st *corev1.ContainerStatus, pod *corev1.Pod, c *corev1.Container, have Have, init bool) {
	l := newest(have, c.Name)
	if l == nil {
		st.State.Waiting = waitingState(pod, c.Name, have, init)
		return
	}
	st.RestartCount = int32(l.Config.Attempt)
	st.ContainerID, st.ImageID = containerPrefix+l.Config.ID, l.Config.ImageID
	if l.Config.Image != "" {
		st.Image = l.Config.Image
	}
	for i := range have.Containers {
		if p := &have.Containers[i]; p.Config.Name == c.Name && p.Config.Attempt == l.Config.Attempt-1 && p.State == runtime.Exited {
			st.LastTerminationState = corev1.ContainerState{Terminated: terminated(*p)}
		}
	}
	if l.State == runtime.Running {
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(l.Started).Rfc3339Copy()}
		*st.Started = started(c, *l, have)
		st.Ready = ready(c, *l, have)
		if init && !isSidecar(c) {
			st.Ready = false
		}
		return
	}
	w := have.Waiting[c.Name]
	policy := pod.Spec.RestartPolicy
	if init && policy != corev1.RestartPolicyNever {
		policy = corev1.RestartPolicyOnFailure
	}
	again := restarts(policy, l.Exit.Code) && pod.DeletionTimestamp == nil && !ended(pod)
	switch {
	case again && w.Reason != "":
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
		st.LastTerminationState = corev1.ContainerState{Terminated: terminated(*l)}
	case again && l.Config.Labels[labelBackoff] != "":
		delay, _ := backoff(*l)
		if delay == 0 {
			st.State.Terminated = terminated(*l)
			break
		}
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", delay, c.Name, pod.Name, pod.Namespace, pod.UID)}
		st.LastTerminationState = corev1.ContainerState{Terminated: terminated(*l)}
	default:
		st.State.Terminated = terminated(*l)
		st.Ready = init && l.Exit.Code == 0
	}
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// waitingState is why a container that has never started has not.
func waitingState(pod *corev1.Pod, name string, have Have, init bool) *corev1.ContainerStateWaiting {
	if w := have.Waiting[name]; w.Reason != "" {
		return &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
	}
	if w := have.Waiting[""]; w.Message != "" && !have.Set {
		return &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: w.Message}
	}
	if init || len(pod.Spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

func terminated(c runtime.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{ExitCode: int32(c.Exit.Code), Signal: int32(c.Exit.Signal), Message: c.Exit.Message,
		StartedAt: metav1.NewTime(c.Exit.Started).Rfc3339Copy(), FinishedAt: metav1.NewTime(c.Exit.Finished).Rfc3339Copy(), ContainerID: containerPrefix + c.Config.ID}
	switch {
	case c.Exit.OOMKilled:
		t.Reason = "OOMKilled"
	case c.Exit.Reason != "":
		t.Reason = c.Exit.Reason
	case c.Exit.Code == 0:
		t.Reason = "Completed"
	default:
		t.Reason = "Error"
	}
	// A signal is told in the exit code, as by other runtimes.
	t.Signal = 0
	return t
}

func conditions(s *corev1.PodStatus, pod *corev1.Pod, have Have, now time.Time) {
	set := func(t corev1.PodConditionType, ok bool, reason, message string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: pod.Generation, LastTransitionTime: metav1.NewTime(now).Rfc3339Copy()}
		if ok {
			c.Status = corev1.ConditionTrue
		}
		if ok {
			c.Message = ""
		}
		i := slices.IndexFunc(s.Conditions, func(o corev1.PodCondition) bool { return o.Type == t })
		if i < 0 {
			s.Conditions = append(s.Conditions, c)
			return
		}
		if s.Conditions[i].Status == c.Status {
			c.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		s.Conditions[i] = c
	}
	set(corev1.PodReadyToStartContainers, have.Set && !have.Gone, "", "")
	notInit := names(s.InitContainerStatuses, func(c corev1.ContainerStatus) bool {
		if spec := findContainer(pod, c.Name); spec != nil && isSidecar(spec) {
			return c.State.Running != nil && c.Started != nil && *c.Started
		}
		return c.Ready
	})
	set(corev1.PodInitialized, len(notInit) == 0, reasonUnless(len(notInit) == 0, "ContainersNotInitialized"), "containers with incomplete status: ["+strings.Join(notInit, " ")+"]")
	unready := names(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Ready })
	ok := len(unready) == 0 && s.Phase == corev1.PodRunning
	reason, message := reasonUnless(ok, "ContainersNotReady"), "containers with unready status: ["+strings.Join(unready, " ")+"]"
	switch s.Phase {
	case corev1.PodSucceeded:
		reason, message = "PodCompleted", ""
	case corev1.PodFailed:
		reason, message = "PodFailed", ""
	}
	set(corev1.ContainersReady, ok, reason, message)
	gate := ""
	for _, g := range pod.Spec.ReadinessGates {
		if !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == g.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			gate = string(g.ConditionType)
		}
	}
	if ok && gate != "" {
		ok, reason, message = false, "ReadinessGatesNotReady", "corresponding condition of pod readiness gate \""+gate+"\" does not exist."
	}
	set(corev1.PodReady, ok, reason, message)
}

func reasonUnless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}

func names(list []corev1.ContainerStatus, ok func(corev1.ContainerStatus) bool) []string {
	var out []string
	for _, c := range list {
		if !ok(c) {
			out = append(out, c.Name)
		}
	}
	return out
}
