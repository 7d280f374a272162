package controller_test

import (
	"strings"
	"testing"
	"time"

	"reconcile/controller"
	"reconcile/object"
)

// TestStatusTellsRefusal: who waits for an object whose pods are refused is told why, as of any other wait, and no longer when they come.
func TestStatusTellsRefusal(t *testing.T) {
	const spec = "spec: {replicas: 2, selector: {%s}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: v1}]}}}"
	for _, c := range []struct{ resource, head, selector string }{
		{"deployments", "{apiVersion: apps/v1, kind: Deployment, ", "matchLabels: {app: web}"},
		{"replicasets", "{apiVersion: apps/v1, kind: ReplicaSet, ", "matchLabels: {app: web}"},
		{"replicationcontrollers", "{apiVersion: v1, kind: ReplicationController, ", "app: web"},
	} {
		w := newWorld(t)
		w.node("n1", "4", "8Gi", nil)
		key := object.Key{Resource: c.resource, Namespace: "default", Name: "web"}
		quota := func(pods string) {
			t.Helper()
			if err := w.apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: few}, spec: {hard: {pods: " + pods + "}}}"); err != nil {
				t.Fatal(err)
			}
			w.settle()
		}
		quota("1")
		if err := w.apply(c.head + "metadata: {name: web}, " + strings.Replace(spec, "%s", c.selector, 1) + "}"); err != nil {
			t.Fatal(err)
		}
		w.settle()
		status, message := controller.Status(w.state, key)
		if status != "InProgress" || !strings.Contains(message, `/2, FailedCreate: pods "web-`) || !strings.Contains(message, "exceeded quota: few") {
			t.Errorf("%s: %s %q does not say that a pod is refused and why", c.resource, status, message)
		}
		quota("2")
		w.pass(2 * time.Minute)
		w.settle()
		if status, message = controller.Status(w.state, key); strings.Contains(message, "FailedCreate") {
			t.Errorf("%s: when its pods have come: %s %q", c.resource, status, message)
		}
	}
}
