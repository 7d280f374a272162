package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

const dynamicResources = "DynamicResources"

// withoutDevices refuses a pod that asks for devices by ResourceClaims on every node: there are none in this cluster, and a pod without its device would
// run and fail. nil for a pod that asks for none.
func withoutDevices(pod *corev1.Pod) *refusal {
	if len(pod.Spec.ResourceClaims) == 0 {
		return nil
	}
	first := &pod.Spec.ResourceClaims[0]
	why := fmt.Sprintf("waiting for the ResourceClaim of the pod's claim %q to be made", first.Name)
	if first.ResourceClaimName != nil {
		why = fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", *first.ResourceClaimName)
	}
	return &refusal{dynamicResources, []string{why}, true}
}
