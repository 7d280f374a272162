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
	w.commit(map[string]string{"h.yaml": "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 3}\n"})
	const unmeasured = "horizontalpodautoscaler/default/h: nothing measures what pods use yet, so web is only kept between minReplicas and maxReplicas (h.yaml:1)"
	if out := unwrap(w.git("push", "cluster", "main")); !strings.Contains(out, unmeasured) {
		t.Errorf("the push says %s, want %q", out, unmeasured)
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
