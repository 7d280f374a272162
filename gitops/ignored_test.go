package gitops

import (
	"strings"
	"testing"
)

// TestIgnoredIsTold pushes what is stored and not looked at: the answer says so, with the place, and only when the document is new.
func TestIgnoredIsTold(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"n.yaml": "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed}\nspec: {podSelector: {}}\n"})
	const dormant = "networkpolicy/default/closed: a NetworkPolicy is stored, and nothing acts on it yet (n.yaml:1)"
	if out := unwrap(w.git("push", "cluster", "main")); !strings.Contains(out, dormant) {
		t.Errorf("the push says %s, want %q", out, dormant)
	}
	scaler := func(name, metrics string) map[string]string {
		return map[string]string{name + ".yaml": "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: " + name + "}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n  maxReplicas: 3\n  metrics:\n  - " + metrics + "\n"}
	}
	w.commit(scaler("p", "{type: Object, object: {metric: {name: requests}, describedObject: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: web}, target: {type: Value, value: 5}}}"))
	const unserved = "horizontalpodautoscaler/default/p: metrics of an Ingress are not served yet, so web is not sized by them (p.yaml:1)"
	if out := unwrap(w.git("push", "cluster", "main")); !strings.Contains(out, unserved) {
		t.Errorf("the push says %s, want %q", out, unserved)
	}
	w.commit(scaler("h", "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}\n  - {type: Pods, pods: {metric: {name: requests}, target: {type: AverageValue, averageValue: 5}}}"))
	if out := unwrap(w.git("push", "cluster", "main")); strings.Contains(out, "horizontalpodautoscaler/default/h:") {
		t.Errorf("the push warns of what works: %s", out)
	}
	w.commit(map[string]string{"r.yaml": "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: boxed}\nhandler: kata\noverhead: {podFixed: {cpu: 100m}}\n"})
	const handler = `runtimeclass/boxed: its overhead and scheduling are heeded; its handler "kata" is not: agents have one runtime (r.yaml:1)`
	if out := unwrap(w.git("push", "cluster", "main")); !strings.Contains(out, handler) {
		t.Errorf("the push says %s, want %q", out, handler)
	}
	w.commit(map[string]string{"a.yaml": configMap("a", "1")})
	if out := unwrap(w.git("push", "cluster", "main")); strings.Contains(out, "is stored") {
		t.Errorf("a push of something else says %s", out)
	}
}

// unwrap joins the lines of git's output, which the plan breaks where they are long.
func unwrap(out string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(out, "remote:", "")), " ")
}
