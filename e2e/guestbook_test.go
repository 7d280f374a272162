package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/agent"
)

// guestbook is the example, read as it stands in the repository.
func guestbook(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := filepath.Join("..", "examples", "guestbook", "deploy")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		files[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// running is what identifies a container and tells whether it was touched.
func running(t *testing.T, m *machine, namespace string) string {
	t.Helper()
	pods, err := m.client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			lines = append(lines, fmt.Sprintf("%s %s %s %s restarts=%d", p.Name, p.UID, p.Status.PodIP, c.ContainerID, c.RestartCount))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// TestGuestbook is the example's whole way: plan, push, healthy, the page through the service's address; the forecast was the truth;
// stopping, restarting and killing the servers touches no container; reset leaves nothing.
func TestGuestbook(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"guestbook-web:v1": "../examples/guestbook/web", "guestbook-store:v1": "../examples/guestbook/store"})
	r := m.repo()
	r.write(guestbook(t))

	r.git("add", "-A")
	r.git("commit", "-q", "-m", "guestbook")
	want := foretold(r)
	pushed := r.git("push", "cluster", "main")
	t.Logf("git push:\n%s", pushed)
	for _, want := range []string{"remote:", "to create", "10.96.", "main -> main"} {
		if !strings.Contains(pushed, want) {
			t.Errorf("git push showed no %q", want)
		}
	}
	t.Logf("status:\n%s", r.healthy())

	same(t, want.pods("guestbook"), placed(m, "guestbook"))
	want.rules(m, "guestbook")

	svc, err := m.client().CoreV1().Services("guestbook").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + svc.Spec.ClusterIP + "/"
	page := func() {
		t.Helper()
		eventually(t, "the page through the service's address", func() error {
			body, err := m.get(url)
			if err == nil && !strings.Contains(body, "<h1>Guestbook</h1>") {
				err = fmt.Errorf("the page is %s", body)
			}
			return err
		})
	}
	page()

	before := running(t, m, "guestbook")
	m.stop()
	page()
	m.start("up")
	if after := running(t, m, "guestbook"); after != before {
		t.Errorf("a stop and a start changed the containers:\nbefore\n%s\nafter\n%s", before, after)
	}
	m.kill()
	page()
	m.start("up")
	r.healthy()
	if after := running(t, m, "guestbook"); after != before {
		t.Errorf("a kill -9 and a start changed the containers:\nbefore\n%s\nafter\n%s", before, after)
	}
	page()
	if again := r.git("push", "cluster", "main"); !strings.Contains(again, "up-to-date") {
		t.Errorf("a second push of the same commit showed %s", again)
	}
}

// TestContainerLife kills what can be killed beneath a pod and sees that it comes back: the container's process, its shim, DNS.
func TestContainerLife(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox"})
	r := m.repo()
	r.write(map[string]string{
		"config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: words}\ndata: {greeting: hello, file.txt: from a file}\n",
		"secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {token: s3cr3t-value}\n",
		"web.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          image: toolbox:v1
          args: [serve, ":8080", "I am $(POD_NAME)"]
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: GREETING, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
            - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          livenessProbe: {tcpSocket: {port: 8080}, timeoutSeconds: 20}
          volumeMounts:
            - {name: scratch, mountPath: /scratch}
            - {name: words, mountPath: /etc/words}
        - name: side
          image: toolbox:v1
          args: [sleep]
          startupProbe: {exec: {command: [/app, exit, "0"]}, timeoutSeconds: 20}
      volumes:
        - {name: scratch, emptyDir: {}}
        - {name: words, configMap: {name: words}}
`,
		"service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web-headless}\nspec:\n  clusterIP: None\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n",
	})
	if pushed := r.push("web"); strings.Contains(pushed, "s3cr3t-value") {
		t.Errorf("the plan shows a Secret's value:\n%s", pushed)
	}
	r.healthy()
	c := m.client()
	pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil || len(pods.Items) != 2 {
		t.Fatalf("%d pods, %v, want 2", len(pods.Items), err)
	}
	pod := pods.Items[0]
	exec := func(args ...string) (string, error) {
		return m.try("kubectl", append([]string{"--kubeconfig", m.kubeconfig(), "exec", pod.Name, "-c", "side", "--", "/app"}, args...)...)
	}
	for what, tc := range map[string]struct{ args, want string }{
		"an environment variable of a ConfigMap": {"get http://localhost:8080/env?GREETING", "hello"},
		"an environment variable of a Secret":    {"get http://localhost:8080/env?TOKEN", "s3cr3t-value"},
		"a file of a ConfigMap":                  {"get http://localhost:8080/file?/etc/words/file.txt", "from a file"},
		"the service by its short name":          {"get http://web/", "I am web-"},
		"the service by its whole name":          {"get http://web.default.svc.cluster.local/", "I am web-"},
		"the API's service":                      {"lookup kubernetes.default", "10.96.0.1"},
	} {
		eventually(t, what+", from a pod", func() error {
			out, err := exec(strings.Fields(tc.args)...)
			if err == nil && !strings.Contains(out, tc.want) {
				err = fmt.Errorf("%q in it is missing", tc.want)
			}
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	eventually(t, "the headless name gives the pods' addresses", func() error {
		out, err := exec("lookup", "web-headless")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, p := range pods.Items {
			if !strings.Contains(out, p.Status.PodIP) {
				return fmt.Errorf("%s is not in %s", p.Status.PodIP, out)
			}
		}
		return nil
	})
	if out, err := exec("exit", "7"); err == nil || !strings.Contains(out, "code 7") {
		t.Errorf("exec of a command that ends with 7 gave %v: %s", err, out)
	}

	restarts := func() int32 {
		p, err := c.CoreV1().Pods("default").Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := int32(0)
		for _, s := range p.Status.ContainerStatuses {
			n += s.RestartCount
		}
		return n
	}
	if restarts() != 0 {
		t.Errorf("containers restarted before anything was done: %d", restarts())
	}
	sigkill(t, processOf(t, "the container", func(cmdline string) bool { return strings.HasSuffix(cmdline, "serve :8080 I am "+pod.Name) }))
	eventually(t, "a killed container is restarted", func() error {
		p, err := c.CoreV1().Pods("default").Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == "web" && s.RestartCount == 1 && s.Ready && s.LastTerminationState.Terminated != nil {
				if code := s.LastTerminationState.Terminated.ExitCode; code != 137 {
					t.Errorf("its exit code is %d, want 137", code)
				}
				return nil
			}
		}
		return fmt.Errorf("its containers are %v", p.Status.ContainerStatuses)
	})

	sigkill(t, processOf(t, "DNS", func(cmdline string) bool {
		return strings.HasSuffix(cmdline, "dns --config "+agent.RunDir(m.dir)+"/dns.json")
	}))
	eventually(t, "names are answered again after DNS was killed", func() error {
		_, err := exec("lookup", "web.default.svc.cluster.local")
		return err
	})

	r.write(map[string]string{"web.yaml": "", "service.yaml": ""})
	r.push("no web")
	eventually(t, "what left git is gone", func() error {
		left, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(left.Items))
		}
		return err
	})
}

// TestBackOff sees a container that fails, one that eats too much, and one whose image is not there, told as Kubernetes tells them.
func TestBackOff(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox"})
	pod := func(name, image, args string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n    - {name: c, image: %s, args: [%s], resources: {limits: {memory: 32Mi}}}\n---\n", name, image, args)
	}
	r := m.repo()
	r.write(map[string]string{"pods.yaml": pod("fails", "toolbox:v1", `exit, "3"`) + pod("eats", "toolbox:v1", `eat, "200"`) + pod("absent", "nowhere:v1", `sleep`)})
	r.push("pods that cannot run")
	c := m.client()
	for name, ok := range map[string]func(corev1.ContainerStatus) bool{
		"fails": func(s corev1.ContainerStatus) bool {
			return s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" && s.LastTerminationState.Terminated.ExitCode == 3
		},
		"eats": func(s corev1.ContainerStatus) bool {
			for _, st := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
				if st != nil && st.Reason == "OOMKilled" && st.ExitCode == 137 {
					return true
				}
			}
			return false
		},
		"absent": func(s corev1.ContainerStatus) bool {
			return s.State.Waiting != nil && strings.HasPrefix(s.State.Waiting.Reason, "Err") && strings.Contains(s.State.Waiting.Message, "reconcile image")
		},
	} {
		eventually(t, "the status of pod "+name, func() error {
			p, err := c.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(p.Status.ContainerStatuses) != 1 || !ok(p.Status.ContainerStatuses[0]) {
				return fmt.Errorf("it is %+v", p.Status.ContainerStatuses)
			}
			return nil
		})
	}
}

// TestStopsAtSignal sees that Ctrl-C ends the process in order and with exit code 0.
func TestStopsAtSignal(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	if err := m.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-m.done:
		if err != nil {
			t.Errorf("it ended with %v, want exit code 0\n%s", err, tail(m.log(), 20))
		}
	case <-time.After(time.Minute):
		t.Error("it has not ended within a minute")
		m.cmd.Process.Kill()
	}
	m.cmd = nil
}
