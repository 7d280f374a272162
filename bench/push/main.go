// Command push measures the way of a push: from the start of `git push` until all pods are bound, and until the first reply
// through the service's address. For comparison it pushes each commit to an empty bare repository on the same disk too: that is
// what git itself takes.
//
//	make build
//	bench/netns.sh go run ./bench/push -replicas 3,100,1000      fake nodes, until all pods are bound
//	bench/netns.sh go run ./bench/push -real -replicas 3,30      real containers, also the first reply and all ready; as root
//
// bench/netns.sh keeps the cluster apart from another one of this machine; without it none may run.
//
// It owns nothing but the temporary folder and the process that it starts and removes. Pushes are bounded in number and time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"reconcile/bench/harness"
)

type config struct {
	binary   string
	replicas []int
	pushes   int
	nodes    int
	real     bool
}

func main() {
	var cfg config
	sizes := flag.String("replicas", "3", "replicas of the deployment, one or more numbers with commas")
	flag.StringVar(&cfg.binary, "binary", "bin/reconcile", "the reconcile binary")
	flag.IntVar(&cfg.pushes, "pushes", 20, "pushes a size")
	flag.IntVar(&cfg.nodes, "nodes", 10, "fake nodes")
	flag.BoolVar(&cfg.real, "real", false, "run real containers on this machine (as root)")
	flag.Parse()
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "push: -replicas %q: want whole numbers with commas\n", *sizes)
			os.Exit(2)
		}
		cfg.replicas = append(cfg.replicas, n)
	}
	if err := run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

func run(cfg config) error {
	binary, err := filepath.Abs(cfg.binary)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "reconcile-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	command := "server"
	if cfg.real {
		command = "up"
	}
	p, err := harness.Start(ctx, binary, filepath.Join(tmp, "data"), command, "--api-addr", "127.0.0.1:16443")
	if err != nil {
		return err
	}
	defer func() {
		if err := errors.Join(p.Stop(), p.Reset()); err != nil {
			fmt.Fprintln(os.Stderr, "push:", err)
		}
	}()
	c, err := p.Client()
	if err != nil {
		return err
	}
	if cfg.real {
		if err := buildImage(binary, p.DataDir, tmp); err != nil {
			return err
		}
	} else {
		if err := harness.FakeNodes(ctx, c, cfg.nodes); err != nil {
			return err
		}
		go harness.Renew(ctx, c, cfg.nodes)
	}
	repo, err := p.NewRepo(filepath.Join(tmp, "repo"))
	if err != nil {
		return err
	}
	if err := repo.AddBare(filepath.Join(tmp, "bare")); err != nil {
		return err
	}
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Println(machine)
	fmt.Printf("%-9s %-7s %-26s %10s %10s\n", "replicas", "pushes", "from git push to", "median ms", "worst ms")
	for _, n := range cfg.replicas {
		m, err := measure(ctx, cfg, c, repo, n)
		if err != nil {
			return fmt.Errorf("%d replicas: %w: the server's last lines:\n%s", n, err, p.Tail())
		}
		m.print(n)
	}
	return nil
}

// times are the measured durations of one size, one value a push.
type times struct{ bare, push, bound, reply, ready []time.Duration }

func (m times) print(replicas int) {
	for _, row := range []struct {
		name   string
		values []time.Duration
	}{{"git to a bare repository", m.bare}, {"git push returns", m.push}, {"all pods bound", m.bound}, {"first reply", m.reply}, {"all pods ready", m.ready}} {
		if len(row.values) == 0 {
			continue
		}
		v := slices.Clone(row.values)
		slices.Sort(v)
		fmt.Printf("%-9d %-7d %-26s %10.1f %10.1f\n", replicas, len(v), row.name, ms(v[len(v)/2]), ms(v[len(v)-1]))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func measure(ctx context.Context, cfg config, c kubernetes.Interface, repo *harness.Repo, replicas int) (times, error) {
	var m times
	for i := range cfg.pushes {
		name := fmt.Sprintf("bench-%d-%d", replicas, i)
		if err := repo.Commit("add "+name, map[string]string{name + ".yaml": manifest(name, replicas, cfg.real)}); err != nil {
			return m, err
		}
		if err := onePush(ctx, cfg, c, repo, name, replicas, &m); err != nil {
			return m, fmt.Errorf("push %d: %w", i, err)
		}
		began := time.Now()
		if _, err := repo.Git("push", harness.Bare, "main"); err != nil {
			return m, err
		}
		m.bare = append(m.bare, time.Since(began))
		if err := repo.Commit("remove "+name, map[string]string{name + ".yaml": ""}); err != nil {
			return m, err
		}
		if _, err := repo.Git("push", "-o", "allow-delete=10", "cluster", "main"); err != nil {
			return m, err
		}
		if err := waitGone(ctx, c, name); err != nil {
			return m, err
		}
	}
	return m, nil
}

func onePush(ctx context.Context, cfg config, c kubernetes.Interface, repo *harness.Repo, name string, replicas int, m *times) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	sel := labels.Set{"app": name}.String()
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: sel})
	if err != nil {
		return err
	}
	defer w.Stop()
	began := time.Now()
	pushed := make(chan error, 1)
	var pushTook time.Duration
	go func() {
		_, err := repo.Git("push", "cluster", "main")
		pushTook = time.Since(began)
		pushed <- err
	}()
	var reply chan time.Duration
	if cfg.real {
		reply = make(chan time.Duration, 1)
		go func() { reply <- firstReply(ctx, c, name, began) }()
	}
	bound, ready, err := followPods(w, replicas, cfg.real, began)
	if err != nil {
		return err
	}
	if err := <-pushed; err != nil {
		return err
	}
	m.push, m.bound = append(m.push, pushTook), append(m.bound, bound)
	if cfg.real {
		m.ready = append(m.ready, ready)
		d := <-reply
		if d == 0 {
			return fmt.Errorf("service %s has not answered", name)
		}
		m.reply = append(m.reply, d)
	}
	return nil
}

// followPods returns when all pods were bound and, if wanted, all were ready.
func followPods(w watch.Interface, replicas int, wantReady bool, began time.Time) (bound, ready time.Duration, err error) {
	isBound, isReady := map[string]bool{}, map[string]bool{}
	for e := range w.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return 0, 0, fmt.Errorf("watch pods: %v", e.Object)
		}
		if pod.Spec.NodeName != "" {
			isBound[pod.Name] = true
		}
		for _, cond := range pod.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				isReady[pod.Name] = true
			}
		}
		if bound == 0 && len(isBound) == replicas {
			bound = time.Since(began)
		}
		if bound != 0 && (!wantReady || len(isReady) == replicas) {
			return bound, time.Since(began), nil
		}
	}
	return 0, 0, fmt.Errorf("only %d of %d pods were bound and %d ready when the watch ended", len(isBound), replicas, len(isReady))
}

// firstReply asks the service's address until it answers, and returns how long that took from began; 0 if ctx ended first.
func firstReply(ctx context.Context, c kubernetes.Interface, name string, began time.Time) time.Duration {
	w, err := c.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return 0
	}
	defer w.Stop()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for e := range w.ResultChan() {
		svc, ok := e.Object.(*corev1.Service)
		if !ok || svc.Spec.ClusterIP == "" {
			continue
		}
		for ctx.Err() == nil {
			res, err := client.Get("http://" + svc.Spec.ClusterIP + "/healthz")
			if err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					return time.Since(began)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return 0
}

// waitGone returns when no pod of the deployment is left.
func waitGone(ctx context.Context, c kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		pods, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + name, Limit: 1})
		if err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return nil
		}
		// A pod of a fake node has nobody who would finish its deletion.
		for _, pod := range pods.Items {
			if strings.HasPrefix(pod.Spec.NodeName, "fake-") {
				zero := int64(0)
				if err := c.CoreV1().Pods("default").DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{LabelSelector: "app=" + name}); err != nil {
					return err
				}
				break
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pods of %s are still there: %w", name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// buildImage builds the guestbook's web program into an image of the node.
func buildImage(binary, dataDir, tmp string) error {
	out := filepath.Join(tmp, "web")
	build := exec.Command("go", "build", "-o", out, "./examples/guestbook/web")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the web program: %w: %s", err, b)
	}
	if b, err := exec.Command(binary, "image", "build", "--data-dir", dataDir, "-t", "bench-web:v1", out).CombinedOutput(); err != nil {
		return fmt.Errorf("build the image: %w: %s", err, b)
	}
	return nil
}

func manifest(name string, replicas int, real bool) string {
	probe := ""
	if real {
		probe = `
          env: [{name: STORE_URL, value: "http://127.0.0.1:1"}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}`
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: bench-web:v1
          resources: {requests: {cpu: 10m, memory: 16Mi}}%[3]s
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{port: 80, targetPort: 8080}]
`, name, replicas, probe)
}
