package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// settled is how long after a start memory is looked at again.
const settled = 10 * time.Second

// size fills both clusters with keys of 1 KiB and prints what memory they take, how long all members need to answer a read after they were
// killed and started again, and what memory they take then.
func (b *bench) size(ctx context.Context, keys int) error {
	fmt.Printf("\nload average %s\n\n| %d members, %d keys of 1 KiB | loaded in, CPU s | resident MiB, largest member | killed and started: first read after | resident MiB then | %s later |\n|-|-|-|-|-|-|\n", loadAverage(), len(b.clusters[0].endpoints), keys, settled)
	for _, c := range b.clusters {
		spent, began := c.cpu(), time.Now()
		if err := c.load(ctx, keys); err != nil {
			return fmt.Errorf("fill %s with %d keys: %w", c.name, keys, err)
		}
		loaded, before := time.Since(began), largest(c.resident())
		spent = c.cpu() - spent
		c.stop()
		began = time.Now()
		if err := c.again(ctx); err != nil {
			return fmt.Errorf("start %s again: %w", c.name, err)
		}
		for _, e := range c.endpoints {
			if err := firstRead(ctx, e); err != nil {
				return fmt.Errorf("read from %s after its start: %w", c.name, err)
			}
		}
		started, then := time.Since(began), largest(c.resident())
		select {
		case <-time.After(settled):
		case <-ctx.Done():
			return ctx.Err()
		}
		fmt.Printf("| %s | %.1f s, %.1f | %d | %.2f s | %d | %d |\n", c.name, loaded.Seconds(), spent.Seconds(), before, started.Seconds(), then, largest(c.resident()))
	}
	return nil
}

func largest(list []int) (n int) {
	for _, v := range list {
		n = max(n, v)
	}
	return n
}

// again starts the processes with the same arguments.
func (c *cluster) again(ctx context.Context) error {
	old := c.procs
	c.procs = nil
	for i, p := range old {
		if _, err := c.start(exec.CommandContext(ctx, p.Path, p.Args[1:]...), fmt.Sprintf("%s.%d", c.logs[i], time.Now().UnixNano())); err != nil {
			return err
		}
	}
	return nil
}

// firstRead returns when a member has answered a linearizable read. It waits for the member's port first: a client that finds it closed tries
// again after a second.
func firstRead(ctx context.Context, endpoint string) error {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
		if err == nil {
			_ = conn.Close() // it was made to be seen
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	for {
		turn, cancel := context.WithTimeout(ctx, time.Second)
		_, err := cl.Get(turn, "s/00000000")
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// load writes the keys, a hundred a transaction, from several clients.
func (c *cluster) load(ctx context.Context, keys int) error {
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	const each, clients = 100, 4
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for w := range clients {
		wg.Go(func() {
			for at := w * each; at < keys; at += clients * each {
				var ops []clientv3.Op
				for i := range each {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("s/%08d", at+i), value(at+i)))
				}
				if _, err := cl.Txn(ctx).Then(ops...).Commit(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// value is 1 KiB that does not compress well.
func value(n int) string {
	b := make([]byte, 1024)
	x := uint64(n)*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}
