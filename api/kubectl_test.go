package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/apitest"
	"reconcile/internal/needs"
)

// kubectl runs the real one against a server.
type kubectl struct {
	t    *testing.T
	s    *apitest.Server
	home string
}

func newKubectl(t *testing.T, s *apitest.Server) kubectl {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		needs.Missing(t, "kubectl is not installed: the real client cannot be run (scripts/ installs it)")
	}
	return kubectl{t, s, t.TempDir()}
}

func (k kubectl) cmd(ctx context.Context, stdin string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "kubectl", args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+k.s.Kubeconfig, "HOME="+k.home)
	c.Stdin = strings.NewReader(stdin)
	return c
}

// ok runs kubectl and returns its output; it fails the test if kubectl fails.
func (k kubectl) ok(stdin string, args ...string) string {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 60*time.Second)
	defer cancel()
	out, err := k.cmd(ctx, stdin, args...).CombinedOutput()
	if err != nil {
		k.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fails runs kubectl, which must fail, and returns its output.
func (k kubectl) fails(stdin string, args ...string) string {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 60*time.Second)
	defer cancel()
	out, err := k.cmd(ctx, stdin, args...).CombinedOutput()
	if err == nil {
		k.t.Errorf("kubectl %s: succeeded, want a failure\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

func has(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("output has no %q:\n%s", w, got)
		}
	}
}

const webYAML = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`

// seed puts a node, a running pod and an event into the store, as the cluster itself would.
func seed(s *apitest.Store) {
	s.Put(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1-uid", CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour)), Labels: map[string]string{"kubernetes.io/hostname": "n1"}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.3", OSImage: "Debian 12", KernelVersion: "6.18", ContainerRuntimeVersion: "reconcile://1"},
		},
	})
	s.Put(pod("p1", "n1"))
	s.Put(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "p1.1", Namespace: "default", UID: "e1"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p1", Namespace: "default", UID: "p1-uid"},
		Type:           "Normal", Reason: "Started", Message: "Started container c", Count: 1,
		FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(), Source: corev1.EventSource{Component: "kubelet", Host: "n1"},
	})
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "p1-uid", CreationTimestamp: metav1.NewTime(time.Now().Add(-10 * time.Minute)), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, RestartPolicy: corev1.RestartPolicyAlways, SecurityContext: &corev1.PodSecurityContext{}, Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.244.0.5", PodIPs: []corev1.PodIP{{IP: "10.244.0.5"}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: true, RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(time.Now().Add(-time.Minute))}}}},
		},
	}
}

// TestKubectl walks through what a user does, with the real kubectl.
func TestKubectl(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	seed(store)
	k := newKubectl(t, apitest.Start(t, store, nil))

	t.Run("discovery", func(t *testing.T) {
		k := kubectl{t, k.s, k.home}
		has(t, k.ok("", "version"), "Server Version: v1.36.3+reconcile")
		has(t, k.ok("", "api-resources"), "deployments", "deploy", "apps/v1", "commits", "reconcile.local/v1alpha1")
		has(t, k.ok("", "api-versions"), "apps/v1", "v1", "reconcile.local/v1alpha1")
		has(t, k.ok("", "get", "--raw", "/readyz?verbose"), "[+]ping ok", "readyz check passed")
		has(t, k.ok("", "cluster-info"), "control plane")
	})

	t.Run("get", func(t *testing.T) {
		k := kubectl{t, k.s, k.home}
		has(t, k.ok("", "get", "pods"), "NAME   READY   STATUS    RESTARTS", "p1     1/1     Running   2 (")
		has(t, k.ok("", "get", "pods", "-A", "-o", "wide"), "NAMESPACE", "NOMINATED NODE", "10.244.0.5", "n1")
		has(t, k.ok("", "get", "pod", "p1", "-o", "yaml"), "apiVersion: v1\nkind: Pod", "nodeName: n1")
		has(t, k.ok("", "get", "pods", "-o", "json"), `"kind": "List"`, `"name": "p1"`)
		has(t, k.ok("", "get", "pods", "-o", "name"), "pod/p1")
		has(t, k.ok("", "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"), "10.244.0.5")
		has(t, k.ok("", "get", "pods", "-o", "custom-columns=N:.metadata.name,IP:.status.podIP"), "p1", "10.244.0.5")
		has(t, k.ok("", "get", "pods", "--show-labels", "--sort-by=.metadata.name"), "app=p1")
		has(t, k.ok("", "get", "pods", "-l", "app=other"), "No resources found")
		has(t, k.ok("", "get", "pods", "-l", "app in (p1)", "--field-selector", "spec.nodeName=n1,status.phase!=Failed"), "p1")
		has(t, k.ok("", "get", "nodes", "-o", "wide"), "n1", "Ready", "v1.36.3", "Debian 12", "reconcile://1")
		has(t, k.ok("", "get", "events"), "LAST SEEN", "Started container c")
		has(t, k.ok("", "events"), "Started container c")
		has(t, k.ok("", "get", "all"), "pod/p1")
		has(t, k.fails("", "get", "pod", "nix"), `Error from server (NotFound): pods "nix" not found`)
		has(t, k.fails("", "get", "pods", "--field-selector", "spec.foo=1"), "field label not supported: spec.foo")
		has(t, k.fails("", "get", "foos"), `the server doesn't have a resource type "foos"`)
		has(t, k.ok("", "describe", "pod", "p1"), "Node:         n1/", "Started container c")
		has(t, k.ok("", "describe", "node", "n1"), "Container Runtime Version:  reconcile://1", "Non-terminated Pods:          (1 in total)")
	})

	t.Run("write", func(t *testing.T) {
		k := kubectl{t, k.s, k.home}
		web := filepath.Join(t.TempDir(), "web.yaml")
		if err := os.WriteFile(web, []byte(webYAML), 0o600); err != nil {
			t.Fatal(err)
		}
		has(t, k.ok("", "create", "namespace", "shop"), "namespace/shop created")
		has(t, k.fails("", "create", "namespace", "shop"), `Error from server (AlreadyExists): namespaces "shop" already exists`)
		has(t, k.ok("", "create", "configmap", "cm", "--from-literal=a=b"), "configmap/cm created")
		has(t, k.ok("", "create", "secret", "generic", "sec", "--from-literal=a=b"), "secret/sec created")
		has(t, k.ok("", "apply", "-f", web), "deployment.apps/web created", "service/web created")
		has(t, k.ok("", "apply", "-f", web), "deployment.apps/web unchanged", "service/web unchanged")
		has(t, k.ok(strings.Replace(webYAML, "replicas: 3", "replicas: 4", 1), "apply", "-f", "-"), "deployment.apps/web configured")
		has(t, k.fails("", "diff", "-f", web), "-  replicas: 4", "+  replicas: 3")
		has(t, k.ok("", "get", "deploy", "-o", "wide"), "web    0/4", "nginx:1", "app=web")
		has(t, k.ok("", "describe", "deploy", "web"), "Replicas:               4 desired")
		has(t, k.ok("", "describe", "svc", "web"), "TargetPort:               80/TCP")
		has(t, k.ok("", "set", "image", "deploy/web", "web=nginx:2"), "image updated")
		has(t, k.ok("", "get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image} {.metadata.generation}"), "nginx:2 3")
		has(t, k.ok("", "scale", "deploy/web", "--replicas=5"), "scaled")
		has(t, k.ok("", "get", "deploy", "web", "--subresource=scale"), "NAME   DESIRED   AVAILABLE   AGE", "web    5         0")
		has(t, k.fails(strings.Replace(webYAML, "kind: Deployment", "kind: Widget", 1), "apply", "-f", "-"), `no matches for kind "Widget" in version "apps/v1"`)
		has(t, k.ok("", "label", "deploy/web", "tier=front"), "labeled")
		has(t, k.ok("", "annotate", "deploy/web", "note=x"), "annotated")
		has(t, k.ok("", "patch", "deploy/web", "-p", `{"spec":{"replicas":6}}`), "patched")
		has(t, k.ok("", "patch", "deploy/web", "--type=json", "-p", `[{"op":"replace","path":"/spec/replicas","value":7}]`), "patched")
		has(t, k.ok("", "patch", "deploy/web", "--type=merge", "-p", `{"metadata":{"labels":{"tier":null}}}`), "patched")
		has(t, k.ok("", "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}{.metadata.labels}"), `7{"app":"web"}`)
		has(t, k.ok("", "patch", "deploy/web", "--subresource=status", "--type=merge", "-p", `{"status":{"replicas":7,"updatedReplicas":7,"readyReplicas":7,"availableReplicas":7,"observedGeneration":7}}`), "patched")
		has(t, k.ok("", "rollout", "restart", "deploy/web"), "restarted")
		has(t, k.ok("", "rollout", "history", "deploy/web"), "No rollout history found")
		has(t, k.ok("", "run", "one", "--image=nginx", "--dry-run=server"), "pod/one created (server dry run)")
		has(t, k.fails("", "get", "pod", "one"), "not found")
		has(t, k.ok("", "run", "one", "--image=nginx"), "pod/one created")
		has(t, k.ok("", "expose", "pod", "p1", "--port=80", "--name=exp", "--cluster-ip=None"), "exposed")
		has(t, k.ok("", "cordon", "n1"), "cordoned")
		has(t, k.ok("", "uncordon", "n1"), "uncordoned")
		has(t, k.ok("", "taint", "nodes", "n1", "k=v:NoSchedule"), "tainted")
		has(t, k.ok("", "get", "lease,ep,endpointslice,rs,secrets,cm,svc", "-A"), "configmap/cm", "service/web")
		has(t, k.ok("", "wait", "--for=jsonpath={.status.readyReplicas}=7", "deploy/web", "--timeout=10s"), "condition met")
		has(t, k.ok("", "delete", "-f", web), `deployment.apps "web" deleted`, `service "web" deleted`)
		has(t, k.ok("", "delete", "cm", "--all"), `configmap "cm" deleted`)
		has(t, k.ok("", "apply", "--server-side", "-f", web), "deployment.apps/web serverside-applied", "service/web serverside-applied")
		has(t, k.ok("", "delete", "-f", web), "deleted")
		has(t, k.ok("", "apply", "-f", web), "deployment.apps/web created")
		has(t, k.ok(strings.Replace(webYAML, "replicas: 3", "replicas: 4", 1), "apply", "--server-side", "-f", "-"), "deployment.apps/web serverside-applied")
		has(t, k.fails(strings.Replace(webYAML, "replicas: 3", "replicas: 5", 1), "apply", "--server-side", "--field-manager=jane", "-f", "-"), `Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas`)
		has(t, k.ok("", "get", "deploy", "web", "-o", "jsonpath={.metadata.managedFields[*].manager}", "--show-managed-fields"), "kubectl")
		bad := strings.Replace(webYAML, "replicas: 3", "replicass: 3", 1)
		has(t, k.fails(bad, "apply", "-f", "-"), `strict decoding error: unknown field "spec.replicass"`)
		has(t, k.fails(strings.Replace(webYAML, "name: web, image", "name: Web_, image", 1), "create", "-f", "-"), "spec.template.spec.containers[0].name: Invalid value")
	})
}

// TestReviews asks who one is and what one may do, as kubectl auth does.
func TestReviews(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, apitest.Start(t, apitest.New(), nil))
	has(t, k.ok("", "auth", "can-i", "delete", "nodes"), "yes")
	has(t, k.ok("", "auth", "can-i", "--list"), "*.*", "[*]")
	has(t, k.ok("", "auth", "whoami"), "system:masters")
	has(t, k.fails("", "auth", "can-i", "create", "pods", "--as=jane"), "no")
	list := k.ok("", "auth", "can-i", "--list", "--as=jane")
	has(t, list, "selfsubjectaccessreviews.authorization.k8s.io", "selfsubjectreviews.authentication.k8s.io")
	if strings.Contains(list, "selfsubjectaccessreviews.authentication.k8s.io") || strings.Contains(list, "selfsubjectreviews.authorization.k8s.io") {
		t.Errorf("resources of other groups: %s", list)
	}
	has(t, k.fails("", "auth", "can-i", "get", "/version", "--as=system:anonymous"), `User "system:anonymous" cannot create resource "selfsubjectaccessreviews"`)
	has(t, k.fails(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{}}`, "create", "--validate=false", "-f", "-"), "at least one of user or group must be specified")
	has(t, k.ok(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"jane","resourceAttributes":{"verb":"get","resource":"pods"}}}`, "create", "--validate=false", "-f", "-", "-o", "yaml"),
		"allowed: false")
	has(t, k.ok("", "api-resources", "--verbs=create", "-o", "name"), "tokenreviews.authentication.k8s.io", "localsubjectaccessreviews.authorization.k8s.io", "bindings")
}
