// Package clients runs what people write for Kubernetes against a cluster of ours: client-go's informers, dynamic client, server-side apply and
// leader election, controller-runtime's example and a suite in the manner of envtest, Helm 3 and 4, Prometheus' discovery, and the requests of
// k9s. It is a module of its own, because its dependencies are none of ours.
//
// It owns one cluster of one machine, which it starts with the binary of $RECONCILE_BIN and removes again, and a namespace a test in it. It
// knows nothing of reconcile but that binary's commands up, image and reset. `make clients` builds what it needs and runs it in a network
// namespace.
//
// How data passes through: TestMain starts the cluster, each test speaks to it as its client would, and compares what it sees with what that
// client's users were promised.
package clients

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// kubeconfig is the administrator's, of the cluster that TestMain has started.
var kubeconfig string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	bin, toolbox := os.Getenv("RECONCILE_BIN"), os.Getenv("TOOLBOX")
	if bin == "" || toolbox == "" || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "clients: needs root, RECONCILE_BIN and TOOLBOX: run `make clients`")
		if os.Getenv("TEST_REQUIRED") != "" {
			return 1
		}
		return 0
	}
	tmp, err := os.MkdirTemp("", "reconcile-clients-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return 1
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "data")
	stop, err := up(bin, dir)
	if err == nil {
		var out []byte
		if out, err = exec.Command(bin, "image", "build", "--data-dir", dir, "-t", "toolbox:v1", toolbox).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients: start a cluster:", err)
	} else {
		kubeconfig = filepath.Join(dir, "admin.kubeconfig")
		code = m.Run()
	}
	if stop != nil {
		stop()
	}
	if out, err := exec.Command(bin, "reset", "--data-dir", dir, "--yes").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "clients: reset: %v: %s\n", err, out)
		return 1
	}
	return code
}

// up starts a cluster and waits until it is ready. stop ends it.
func up(bin, dir string) (stop func(), err error) {
	cmd := exec.Command(bin, "up", "--data-dir", dir, "--node-name", "n1", "--api-addr", "127.0.0.1:16443")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		//nolint:errcheck // what it printed tells more
		cmd.Wait()
		w.Close()
		close(ended)
	}()
	stop = func() {
		//nolint:errcheck // it may have ended
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			//nolint:errcheck // it may have ended
			cmd.Process.Kill()
			<-ended
		}
	}
	ready := make(chan string, 1)
	go func() {
		var said strings.Builder
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready") {
				ready <- ""
			}
			if said.Len() < 1<<20 {
				said.WriteString(lines.Text() + "\n")
			}
		}
		select {
		case ready <- said.String():
		default:
		}
	}()
	select {
	case said := <-ready:
		if said != "" {
			return stop, errors.New("it has ended: " + said)
		}
		return stop, nil
	case <-time.After(time.Minute):
		return stop, errors.New("it was not ready within a minute")
	}
}

// config is the administrator's, without a rate limit of the client's own.
func config(t *testing.T) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(config(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// namespace makes a namespace that goes with the test.
func namespace(t *testing.T) string {
	t.Helper()
	c := clientset(t).CoreV1().Namespaces()
	ns, err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "clients-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return ns.Name
}

// eventually asks until ok has no error or a minute and a half is over.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within 90 s: %v", what, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deployment is one of pods that answer HTTP.
func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					Containers: []corev1.Container{{Name: "web", Image: "toolbox:v1", Args: []string{"serve", ":8080", "hello"},
						Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
				},
			},
		},
	}
}

// rolledOut waits until all pods of a deployment are ready.
func rolledOut(t *testing.T, ns, name string, want int32) {
	t.Helper()
	c := clientset(t).AppsV1().Deployments(ns)
	eventually(t, "deployment "+name+" is rolled out", func() error {
		d, err := c.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if st := d.Status; st.ObservedGeneration != d.Generation || st.UpdatedReplicas != want || st.ReadyReplicas != want || st.Replicas != want {
			return fmt.Errorf("generation %d: %+v", d.Generation, st)
		}
		return nil
	})
}
