package node

import (
	"log/slog"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// podLog is the log of one pod. If a commit made the pod, every line has it in the form that the servers log, so that one search
// finds a push's way to the running container.
func (a *Agent) podLog(pod *corev1.Pod) *slog.Logger {
	log := a.cfg.Log.With("pod", pod.Namespace+"/"+pod.Name)
	if commit := object.CommitOf(pod); commit != "" {
		log = log.With("commit", commit)
	}
	return log
}
