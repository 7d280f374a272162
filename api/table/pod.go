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
		restarts, last := podRestarts(p)
		told := strconv.Itoa(restarts)
		if restarts > 0 && !last.IsZero() {
			told += " (" + age(last, now) + " ago)"
		}
		return []any{
			p.Name, podReady(p), podStatus(p), told, ageOf(p, now),
			orNone(p.Status.PodIP), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), podGates(p),
		}
	},
}

func podReady(p *corev1.Pod) string {
	ready, total := 0, len(p.Spec.Containers)
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready && c.State.Running != nil {
			ready++
		}
	}
	for _, c := range p.Spec.InitContainers {
		if !sidecar(c) {
			continue
		}
		total++
		for _, st := range p.Status.InitContainerStatuses {
			if st.Name == c.Name && st.Ready {
				ready++
			}
		}
	}
	return fmt.Sprintf("%d/%d", ready, total)
}

// sidecar tells whether an init container keeps running beside the others.
func sidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// podRestarts counts the restarts and finds the time of the last.
func podRestarts(p *corev1.Pod) (int, time.Time) {
	n, last := 0, time.Time{}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			n += int(c.RestartCount)
			if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(last) {
				last = t.FinishedAt.Time
			}
		}
	}
	return n, last
}

// podStatus is the one word that tells most about a pod: the reason of what holds it up, before its phase.
func podStatus(p *corev1.Pod) string {
	word := string(p.Status.Phase)
	if p.Status.Reason != "" {
		word = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			word = corev1.PodReasonSchedulingGated
		}
	}
	starting, init := initStatus(p)
	if starting {
		word = init
	} else {
		word = containersStatus(p, word)
	}
	switch {
	case p.DeletionTimestamp == nil:
	case p.Status.Reason == "NodeLost":
		return "Unknown"
	case p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
		return "Terminating"
	}
	return orUnknown(word)
}

func orUnknown(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}

// initStatus tells whether init containers still hold the pod up, and in which word.
func initStatus(p *corev1.Pod) (bool, string) {
	for i, st := range p.Status.InitContainerStatuses {
		t, w := st.State.Terminated, st.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case i < len(p.Spec.InitContainers) && sidecar(p.Spec.InitContainers[i]) && st.Started != nil && *st.Started:
			continue
		case t != nil:
			return true, "Init:" + endWord(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			return true, "Init:" + w.Reason
		}
		return true, fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
	}
	return false, ""
}

// containersStatus is the first container's trouble, if there is one, else word.
func containersStatus(p *corev1.Pod, word string) string {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		st := p.Status.ContainerStatuses[i]
		switch {
		case st.State.Waiting != nil && st.State.Waiting.Reason != "":
			word = st.State.Waiting.Reason
		case st.State.Terminated != nil:
			word = endWord(st.State.Terminated)
		case st.Ready && st.State.Running != nil:
			running = true
		}
	}
	// One container has ended well while another still runs: the pod runs.
	if word == "Completed" && running {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return "Running"
			}
		}
		return "NotReady"
	}
	return word
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
