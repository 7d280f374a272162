package object

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Usage is what the containers of a pod used over a window that ended at a time. It is shared: nobody may change it.
type Usage struct {
	At         time.Time
	Window     time.Duration
	Containers map[string]corev1.ResourceList
}
