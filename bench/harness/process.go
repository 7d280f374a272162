package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Process is a running reconcile process with a data directory of its own.
type Process struct {
	Binary  string
	DataDir string
	// Started is the time from exec to the line "ready".
	Started time.Duration

	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	tail []string
}

// Start runs `BINARY ARGS... --data-dir DIR` and waits for the line that begins with "ready", at most until ctx ends. The caller
// must Stop it.
func Start(ctx context.Context, binary, dir string, args ...string) (*Process, error) {
	p := &Process{Binary: binary, DataDir: dir, done: make(chan struct{})}
	p.cmd = exec.Command(binary, append(args, "--data-dir", dir)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	w.Close()
	ready := make(chan struct{})
	go p.read(r, ready)
	select {
	case <-ready:
		p.Started = time.Since(began)
		return p, nil
	case <-p.done:
		err = errors.New("has ended")
	case <-ctx.Done():
		err = fmt.Errorf("was not ready: %w", ctx.Err())
	}
	// What a start that failed has made is not to stay on the machine.
	err = errors.Join(err, p.Stop(), p.Reset())
	return nil, fmt.Errorf("%s %s: %w: %s", binary, strings.Join(args, " "), err, p.Tail())
}

// read keeps the last lines of the process's output, reports the first that begins with "ready", and closes done at the end.
func (p *Process) read(r *os.File, ready chan struct{}) {
	defer close(p.done)
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	seen := false
	for lines.Scan() {
		p.mu.Lock()
		p.tail = append(p.tail, lines.Text())
		if len(p.tail) > 50 {
			p.tail = p.tail[1:]
		}
		p.mu.Unlock()
		if !seen && strings.HasPrefix(lines.Text(), "ready") {
			seen = true
			close(ready)
		}
	}
}

// Tail is the end of what the process has printed.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Stop ends the process with SIGTERM, and with SIGKILL after 20 s, and waits for it.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	err := p.cmd.Wait()
	<-p.done
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// Reset removes what the process left on the machine: containers, networks, rules and data.
func (p *Process) Reset() error {
	out, err := exec.Command(p.Binary, "reset", "--data-dir", p.DataDir, "--yes").CombinedOutput()
	if err != nil {
		return fmt.Errorf("reset %s: %w: %s", p.DataDir, err, out)
	}
	return nil
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (p *Process) Kubeconfig() string { return filepath.Join(p.DataDir, "admin.kubeconfig") }

// Client is a client-go client with the administrator's rights and without a rate limit of its own.
func (p *Process) Client() (*kubernetes.Clientset, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = -1, -1
	return kubernetes.NewForConfig(cfg)
}
