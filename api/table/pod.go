package table

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

var pods = Printer{
	Columns: []Column{
		nameColumn,
		text("Ready", "Containers that are ready, of all containers."),
		text("Status", "Phase of the pod, or why it is not running."),
		text("Restarts", "Restarts of the pod's containers, and the time since the last."),
		ageColumn,
		wide(text("IP", "Address of the pod.")),
		wide(text("Node", "Node the pod is bound to.")),
		wide(text("Nominated Node", "Node that is being freed for the pod.")),
		wide(text("Readiness Gates", "Conditions that must hold, beside the containers' readiness, and how many do.")),
	},
	Row: func(o object.Object, now time.Time) []any {
		p := o.(*corev1.Pod)
		v := summarize(p)
		restarts := strconv.Itoa(v.restarts)
		if v.restarts != 0 && !v.last.IsZero() {
			restarts += " (" + age(v.last, now) + " ago)"
		}
		ip := p.Status.PodIP
		if ip == "" && len(p.Status.PodIPs) > 0 {
			ip = p.Status.PodIPs[0].IP
		}
		return []any{
			p.Name, fmt.Sprintf("%d/%d", v.ready, v.total), v.word, restarts, ageOf(p, now),
			orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), podGates(p),
		}
	},
}

// podSummary is what a row tells of a pod's containers.
type podSummary struct {
	ready, total, restarts int
	// last is when a container last ended before it was started again.
	last time.Time
	// word is the one word that tells most about the pod: the reason of what holds it up, before its phase.
	word string
}

// count adds one container's restarts.
func (v *podSummary) count(st corev1.ContainerStatus) {
	v.restarts += int(st.RestartCount)
	if t := st.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(v.last) {
		v.last = t.FinishedAt.Time
	}
}

// sidecar tells whether an init container keeps running beside the others.
func sidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func summarize(p *corev1.Pod) podSummary {
	v := podSummary{total: len(p.Spec.Containers), word: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		v.word = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			v.word = corev1.PodReasonSchedulingGated
		}
	}
	sidecars := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		if sidecar(c) {
			sidecars[c.Name] = true
			v.total++
		}
	}
	beside, starting := v.initContainers(p, sidecars)
	if !starting || condition(p, corev1.PodInitialized) == corev1.ConditionTrue {
		// What the init containers went through is over: the restarts of those that stay are told with the others'.
		v.restarts, v.last = beside.restarts, beside.last
		v.containers(p)
	}
	switch {
	case p.DeletionTimestamp == nil:
	case p.Status.Reason == "NodeLost":
		v.word = "Unknown"
	case p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
		v.word = "Terminating"
	}
	return v
}

// initContainers takes in the init containers, up to the first that holds the pod up. beside is the restarts of those that keep running.
func (v *podSummary) initContainers(p *corev1.Pod, sidecars map[string]bool) (beside podSummary, starting bool) {
	for i, st := range p.Status.InitContainerStatuses {
		v.count(st)
		if sidecars[st.Name] {
			beside.count(st)
		}
		t, w := st.State.Terminated, st.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case sidecars[st.Name] && st.Started != nil && *st.Started:
			if st.Ready {
				v.ready++
			}
			continue
		case t != nil:
			v.word = "Init:" + endWord(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			v.word = "Init:" + w.Reason
		default:
			v.word = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return beside, true
	}
	return beside, false
}

// containers takes in the containers; the first one's trouble is the pod's.
func (v *podSummary) containers(p *corev1.Pod) {
	running, trouble := false, ""
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		st := p.Status.ContainerStatuses[i]
		v.count(st)
		switch {
		case st.State.Waiting != nil && st.State.Waiting.Reason != "":
			v.word = st.State.Waiting.Reason
		case st.State.Terminated != nil:
			v.word = endWord(st.State.Terminated)
			if st.State.Terminated.ExitCode != 0 {
				trouble = v.word
			}
		case st.Ready && st.State.Running != nil:
			running = true
			v.ready++
		}
	}
	// One container has ended well while another still runs: the pod runs.
	switch {
	case v.word != "Completed":
	case running && condition(p, corev1.PodReady) == corev1.ConditionTrue:
		v.word = "Running"
	case trouble != "":
		v.word = trouble
	case running:
		v.word = "NotReady"
	}
}

// condition is the status of one of the pod's conditions, empty if it has none of the type.
func condition(p *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

// endWord tells how a container ended.
func endWord(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func podGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return none
	}
	met := 0
	for _, g := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == g.ConditionType && c.Status == corev1.ConditionTrue {
				met++
			}
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}
