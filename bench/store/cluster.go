package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// cluster is the server processes of one kind.
type cluster struct {
	name      string
	endpoints []string
	procs     []*exec.Cmd
	logs      []string
}

func (c *cluster) start(cmd *exec.Cmd, log string) (io.ReadCloser, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.procs, c.logs = append(c.procs, cmd), append(c.logs, log)
	return out, nil
}

func (c *cluster) stop() {
	for _, p := range c.procs {
		_ = p.Process.Kill()
		_ = p.Wait() // it was killed
	}
}

// host is a loopback address of this run for a member.
func host(kind, i int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid%128, pid/128%256, kind*100+i+1)
}

func startEtcd(ctx context.Context, bin, dir string, n int) (*cluster, error) {
	c := &cluster{name: "etcd"}
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=http://%s:7001", i, host(0, i)))
		c.endpoints = append(c.endpoints, host(0, i)+":7003")
	}
	for i := range n {
		peer, client := "http://"+host(0, i)+":7001", "http://"+host(0, i)+":7003"
		cmd := exec.CommandContext(ctx, bin, "--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, strconv.Itoa(i)),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client,
			"--initial-cluster", strings.Join(initial, ","), "--log-level", "error", "--quota-backend-bytes", "8000000000")
		if _, err := c.start(cmd, filepath.Join(dir, "log"+strconv.Itoa(i))); err != nil {
			c.stop()
			return nil, err
		}
	}
	return c, nil
}

func startOurs(ctx context.Context, bin, dir string, n int, flags []string) (*cluster, error) {
	c := &cluster{name: "ours"}
	var peers []string
	for i := range n {
		h := host(1, i)
		peers = append(peers, fmt.Sprintf("%d=%s:7001/%s:7002/%s:7003", i+1, h, h, h))
		c.endpoints = append(c.endpoints, h+":7003")
	}
	var outs []io.Reader
	for i := range n {
		args := []string{"-id", strconv.Itoa(i + 1), "-data-dir", filepath.Join(dir, strconv.Itoa(i)), "-peers", strings.Join(peers, ",")}
		for _, f := range flags {
			args = append(args, strings.ReplaceAll(f, "{id}", strconv.Itoa(i+1)))
		}
		out, err := c.start(exec.CommandContext(ctx, bin, args...), filepath.Join(dir, "log"+strconv.Itoa(i)))
		if err != nil {
			c.stop()
			return nil, err
		}
		outs = append(outs, out)
	}
	for i, out := range outs {
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			c.stop()
			return nil, fmt.Errorf("our member %d is not ready: %q %w", i+1, line, err)
		}
	}
	return c, nil
}

// tick is the unit of /proc/PID/stat.
const tick = 10 * time.Millisecond

// cpu is the processor time that the cluster's processes have used.
func (c *cluster) cpu() (sum time.Duration) {
	for _, p := range c.procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil {
			continue
		}
		// The name, the second field, is in brackets and may hold blanks.
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, v := range f[11:13] {
			n, err := strconv.Atoi(v)
			if err == nil {
				sum += time.Duration(n) * tick
			}
		}
	}
	return sum
}

// resident is each process's resident memory in MiB.
func (c *cluster) resident() (out []int) {
	for _, p := range c.procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Process.Pid))
		if err != nil {
			continue
		}
		n, err := strconv.Atoi(strings.Fields(string(b))[1])
		if err == nil {
			out = append(out, n*os.Getpagesize()>>20)
		}
	}
	return out
}

// fill writes the keys that reads are measured with: r/00000000 to r/00009999, 256 bytes each.
func fill(ctx context.Context, c *cluster) error {
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	value := strings.Repeat("v", 256)
	for at := 0; at < 10000; at += 100 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("r/%08d", at+i), value))
		}
		var err error
		for range 10 { // an election may be under way
			if _, err = cl.Txn(ctx).Then(ops...).Commit(); err == nil || errors.Is(err, context.Canceled) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
