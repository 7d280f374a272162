package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cluster is two machines on the bridge "outside" of the network namespace that this program runs in (bench/netns.sh).
type cluster struct {
	bin, dir string
	machines []*machine
}

// machine is a network namespace, which lives as long as a process that waits in it, with a reconcile process.
type machine struct {
	name, ip, dir string
	holder        *exec.Cmd
	release       io.Closer
	process       *exec.Cmd
	ended         chan struct{}
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.machines[0].dir, "admin.kubeconfig") }

// start starts the machines and puts the images on both.
func (c *cluster) start(ctx context.Context, archives []string) error {
	first, err := c.machine("n1", "192.0.2.11")
	if err != nil {
		return err
	}
	if err := c.run(ctx, first, "ready", "up", "--api-addr", first.ip+":6443"); err != nil {
		return err
	}
	second, err := c.machine("n2", "192.0.2.12")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(second.dir, "pki"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"ca.crt", "ca.key"} {
		b, err := os.ReadFile(filepath.Join(first.dir, "pki", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(second.dir, "pki", name), b, 0o600); err != nil {
			return err
		}
	}
	if err := c.run(ctx, second, "ready", "agent", "--servers", "https://"+first.ip+":6443"); err != nil {
		return err
	}
	for _, a := range archives {
		for _, m := range c.machines {
			if out, err := c.command(ctx, m, "image", "import", "--data-dir", m.dir, a).CombinedOutput(); err != nil {
				return fmt.Errorf("import an image on %s: %w: %s", m.name, err, out)
			}
		}
		if err := os.Remove(a); err != nil {
			return err
		}
	}
	return nil
}

// machine makes a machine: a namespace with one interface on the bridge.
func (c *cluster) machine(name, ip string) (*machine, error) {
	m := &machine{name: name, ip: ip, dir: filepath.Join(c.dir, name), holder: exec.Command("cat")}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	in, err := m.holder.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.release = in
	// A signal to the group of this program, as timeout sends it, must not end it before reset has run.
	m.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := m.holder.Start(); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", name, err)
	}
	c.machines = append(c.machines, m)
	pid := fmt.Sprint(m.holder.Process.Pid)
	for _, line := range []string{
		"ip link add " + name + " type veth peer name eth0 netns " + pid,
		"ip link set " + name + " master outside up",
		"nsenter -t " + pid + " -n ip link set lo up",
		"nsenter -t " + pid + " -n ip address add " + ip + "/24 dev eth0",
		"nsenter -t " + pid + " -n ip link set eth0 up",
		"nsenter -t " + pid + " -n ip route add default via 192.0.2.254",
	} {
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make machine %s: %s: %w: %s", name, line, err, out)
		}
	}
	return m, nil
}

// command is our command line on a machine.
func (c *cluster) command(ctx context.Context, m *machine, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(m.holder.Process.Pid), "-n", c.bin}, args...)...)
}

// run starts a machine's process and waits for the line of its log that begins with the word.
func (c *cluster) run(ctx context.Context, m *machine, word, command string, args ...string) error {
	log, err := os.Create(m.dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	args = append([]string{command, "--data-dir", m.dir, "--node-name", m.name, "--advertise-addr", m.ip}, args...)
	m.process = c.command(context.Background(), m, args...)
	m.process.Stdout, m.process.Stderr = log, log
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := m.process.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	m.ended = make(chan struct{})
	go func() {
		//nolint:errcheck // its log tells more
		m.process.Wait()
		close(m.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		said, err := os.ReadFile(log.Name())
		if err != nil {
			return err
		}
		if bytes.Contains(append([]byte("\n"), said...), []byte("\n"+word)) {
			return nil
		}
		select {
		case <-m.ended:
			return fmt.Errorf("%s has ended: %s", m.name, said)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", m.name, ctx.Err(), said)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *cluster) keepLogs(to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, m := range c.machines {
		b, err := os.ReadFile(m.dir + ".log")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, m.name+".log"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the processes, removes all that they have made, and then the machines.
func (c *cluster) stop() error {
	var all error
	for _, m := range c.machines {
		if m.process == nil || m.ended == nil {
			continue
		}
		all = errors.Join(all, m.process.Process.Signal(syscall.SIGTERM))
		select {
		case <-m.ended:
		case <-time.After(30 * time.Second):
			all = errors.Join(all, fmt.Errorf("%s did not end within 30 s of SIGTERM", m.name), m.process.Process.Kill())
			<-m.ended
		}
	}
	for _, m := range c.machines {
		if out, err := c.command(context.Background(), m, "reset", "--data-dir", m.dir, "--yes").CombinedOutput(); err != nil {
			all = errors.Join(all, fmt.Errorf("reset %s: %w: %s", m.name, err, out))
		}
		all = errors.Join(all, m.release.Close(), m.holder.Wait())
	}
	return all
}
