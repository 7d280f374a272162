// Command footprint measures what reconcile costs a machine: the binary's size, the time from start to "ready", and the memory of
// `up` when idle and with pods bound.
//
//	make build
//	bench/netns.sh go run ./bench/footprint -pods 100      as root
//
// Memory is read from /proc/PID/smaps_rollup of the process and of its children, the DNS server and the containers' shims, after the
// time to settle: Rss; what of it is anonymous; and Pss, where a page that several processes share is counted once in all. bench/netns.sh
// keeps the cluster apart from another one of this machine; without it none may run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/bench/harness"
)

func main() {
	binary := flag.String("binary", "bin/reconcile", "the reconcile binary")
	pods := flag.Int("pods", 100, "pods of the second reading; 0 for none")
	settle := flag.Duration("settle", 20*time.Second, "how long to wait before memory is read")
	starts := flag.Int("starts", 5, "starts whose time is taken")
	flag.Parse()
	if err := run(*binary, *pods, *settle, *starts); err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
}

func run(binary string, pods int, settle time.Duration, starts int) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Println(machine)
	fmt.Printf("binary             %8.1f MB\n", float64(info.Size())/1e6)
	tmp, err := os.MkdirTemp("", "reconcile-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var took []time.Duration
	var p *harness.Process
	for i := range starts {
		p, err = harness.Start(ctx, binary, filepath.Join(tmp, fmt.Sprintf("data%d", i)), "up", "--api-addr", "127.0.0.1:16443")
		if err != nil {
			return err
		}
		took = append(took, p.Started)
		if i < starts-1 {
			if err := errors.Join(p.Stop(), p.Reset()); err != nil {
				return err
			}
		}
	}
	defer func() {
		if err := errors.Join(p.Stop(), p.Reset()); err != nil {
			fmt.Fprintln(os.Stderr, "footprint:", err)
		}
	}()
	slices.Sort(took)
	fmt.Printf("start to ready     %8.0f ms median of %d first starts, worst %.0f ms\n", ms(took[len(took)/2]), len(took), ms(took[len(took)-1]))
	time.Sleep(settle)
	if err := report("idle", p.Pid()); err != nil {
		return err
	}
	if pods == 0 {
		return nil
	}
	if err := deploy(ctx, p, tmp, pods); err != nil {
		return err
	}
	time.Sleep(settle)
	return report(fmt.Sprintf("%d pods", pods), p.Pid())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// deploy pushes a deployment of so many pods that sleep, and waits until all are ready.
func deploy(ctx context.Context, p *harness.Process, tmp string, pods int) error {
	out := filepath.Join(tmp, "web")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, "./examples/guestbook/web")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the web program: %w: %s", err, b)
	}
	if b, err := exec.Command(p.Binary, "image", "build", "--data-dir", p.DataDir, "-t", "bench-web:v1", out).CombinedOutput(); err != nil {
		return fmt.Errorf("build the image: %w: %s", err, b)
	}
	repo, err := p.NewRepo(filepath.Join(tmp, "repo"))
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: %d
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      containers:
        - name: web
          image: bench-web:v1
          env: [{name: STORE_URL, value: "http://127.0.0.1:1"}]
          resources: {requests: {cpu: 1m, memory: 4Mi}}
`, pods)
	if err := repo.Commit("many", map[string]string{"many.yaml": manifest}); err != nil {
		return err
	}
	if _, err := repo.Git("push", "cluster", "main"); err != nil {
		return err
	}
	c, err := p.Client()
	if err != nil {
		return err
	}
	for {
		d, err := c.AppsV1().Deployments("default").Get(ctx, "many", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if int(d.Status.ReadyReplicas) == pods {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d pods are ready: %w", d.Status.ReadyReplicas, pods, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// report prints the memory of a process, of its children (the DNS server, and a shim for each container) and of all together.
func report(state string, pid int) error {
	kids, err := children(pid)
	if err != nil {
		return err
	}
	var sum usage
	parts := map[string]usage{}
	for _, p := range append([]int{pid}, kids...) {
		u, err := memory(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a helper that has ended meanwhile
		}
		if err != nil {
			return err
		}
		sum = sum.plus(u)
		parts[program(p)] = parts[program(p)].plus(u)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		parts[name].print(state, name)
	}
	sum.print(state, "together")
	return nil
}

// program tells what a process is: a container's shim, or the subcommand of reconcile that it runs.
func program(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil && strings.HasPrefix(filepath.Base(exe), "shim-") {
		return "shim"
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(b), "\x00")
	if err != nil || len(words) < 2 {
		return "?"
	}
	return words[1]
}

// children are the processes that a process has started, by whichever of its threads.
func children(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(b)) {
			kid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", list, err)
			}
			out = append(out, kid)
		}
	}
	return out, nil
}

// usage is the memory of some processes in MB of 10^6 bytes.
type usage struct {
	processes      int
	rss, anon, pss float64
}

func (u usage) plus(v usage) usage {
	return usage{u.processes + v.processes, u.rss + v.rss, u.anon + v.anon, u.pss + v.pss}
}

func (u usage) print(state, name string) {
	if u.processes > 1 {
		name += fmt.Sprintf(" (%d)", u.processes)
	}
	fmt.Printf("%-9s %-15s %8.1f MB resident, %5.1f MB anonymous, %5.1f MB proportional\n", state, name, u.rss, u.anon, u.pss)
}

// memory reads what the kernel counts for a process.
func memory(pid int) (usage, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, err
	}
	u := usage{processes: 1}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
		switch f[0] {
		case "Rss:":
			u.rss = kb * 1024 / 1e6
		case "Anonymous:":
			u.anon = kb * 1024 / 1e6
		case "Pss:":
			u.pss = kb * 1024 / 1e6
		}
	}
	return u, nil
}
