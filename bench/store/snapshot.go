package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// snapshotKeys is how many keys of 1 KiB there are when a snapshot is taken.
const snapshotKeys = 100_000

// snapshots prints what writes suffer while a client takes one snapshot after the other from the leader (Maintenance.Snapshot, as `etcdctl
// snapshot save` does).
func (b *bench) snapshots(ctx context.Context) error {
	fmt.Printf("\n| puts of 256 B, 128 clients, %d keys of 1 KiB | puts/s, p99 without | with snapshots | a snapshot takes | its bytes |\n|-|-|-|-|-|\n", snapshotKeys)
	for _, c := range b.clusters {
		if err := c.load(ctx, snapshotKeys); err != nil {
			return fmt.Errorf("fill %s: %w", c.name, err)
		}
		without, err := b.putsP99(ctx, c)
		if err != nil {
			return err
		}
		began, stop := make(chan error, 1), make(chan struct{})
		taken := make(chan snapped, 1)
		go func() { taken <- c.snapshot(ctx, began, stop) }()
		if err := <-began; err != nil {
			return fmt.Errorf("take a snapshot of %s: %w", c.name, err)
		}
		with, err := b.putsP99(ctx, c)
		close(stop)
		s := <-taken
		if err == nil {
			err = s.err
		}
		if err != nil {
			return fmt.Errorf("take a snapshot of %s: %w", c.name, err)
		}
		fmt.Printf("| %s | %s | %s | %.2f s (%d) | %d MiB |\n", c.name, without, with, s.took.Seconds()/float64(s.n), s.n, s.bytes/int64(s.n)>>20)
	}
	return nil
}

// snapped is how many snapshots were taken.
type snapped struct {
	n     int
	took  time.Duration
	bytes int64
	err   error
}

// snapshot takes snapshots until stop is closed, at least one. It tells when the first has begun.
func (c *cluster) snapshot(ctx context.Context, began chan<- error, stop <-chan struct{}) (s snapped) {
	defer func() { began <- s.err }()
	at, err := c.leader(ctx)
	if err != nil {
		return snapped{err: err}
	}
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints[at : at+1], DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return snapped{err: err}
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	for {
		start := time.Now()
		r, err := cl.Snapshot(ctx)
		if err != nil {
			s.err = err
			return s
		}
		if s.n == 0 {
			began <- nil
		}
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			s.err = err
			return s
		}
		s.n, s.took, s.bytes = s.n+1, s.took+time.Since(start), s.bytes+n
		select {
		case <-stop:
			return s
		default:
		}
	}
}

var p99Of = regexp.MustCompile(`99% in ([0-9.]+) secs`)

// putsP99 gives a cluster a load of puts and returns its rate and the 99th percentile of their times.
func (b *bench) putsP99(ctx context.Context, c *cluster) (string, error) {
	args := []string{"--endpoints", strings.Join(c.endpoints, ","), "--clients", "128", "--conns", "100", "put", "--val-size", "256",
		"--key-space-size", "100000", "--sequential-keys", "--total", strconv.Itoa(max(int(40000*b.scale), 1000))}
	out, err := exec.CommandContext(ctx, b.tool, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	rate, p99 := rateOf.FindStringSubmatch(string(out)), p99Of.FindStringSubmatch(string(out))
	if rate == nil || p99 == nil {
		return "", fmt.Errorf("the benchmark's answer has no rate: %s", out)
	}
	r, _ := strconv.ParseFloat(rate[1], 64)
	p, _ := strconv.ParseFloat(p99[1], 64)
	return fmt.Sprintf("%.0f, %.1f ms", r, p*1000), nil
}
