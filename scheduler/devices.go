package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

const dynamicResources = "DynamicResources"

// withoutDevices refuses a pod that asks for devices by ResourceClaims on every node: there are none in this cluster, and a pod without its device would
// run and fail. nil for a pod that asks for none.
func withoutDevices(pod *corev1.Pod) *refusal {
	for i := range pod.Spec.ResourceClaims {
		c := &pod.Spec.ResourceClaims[i]
		why := fmt.Sprintf("waiting for the ResourceClaim of the pod's claim %q to be made", c.Name)
		if c.ResourceClaimName != nil {
			why = fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", *c.ResourceClaimName)
		}
		return &refusal{dynamicResources, []string{why}, true}
	}
	return nil
}
