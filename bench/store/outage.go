package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// outages prints how long no write is acknowledged when the leader is killed: from the kill until a write is acknowledged that began after it.
// Nine clients, three for each member, each of which knows all members. The member is started again before the next kill.
func (b *bench) outages(ctx context.Context) error {
	fmt.Printf("\n| the leader is killed | outage of writes, s: each of %d | median | worst |\n|-|-|-|-|\n", b.rounds)
	for _, c := range b.clusters {
		var all []float64
		for range b.rounds {
			d, err := c.outage(ctx)
			if err != nil {
				return fmt.Errorf("kill the leader of %s: %w", c.name, err)
			}
			all = append(all, d.Seconds())
		}
		list := fmt.Sprintf("%.2f", all)
		slices.Sort(all)
		fmt.Printf("| %s | %s | %.2f | %.2f |\n", c.name, strings.Trim(list, "[]"), all[len(all)/2], all[len(all)-1])
	}
	return nil
}

// outage kills the leader once.
func (c *cluster) outage(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	const clients = 9
	written := make(chan time.Time, clients) // when a write began that was acknowledged
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range clients {
		cl, err := clientv3.New(clientv3.Config{Endpoints: append(slices.Clone(c.endpoints[i%len(c.endpoints):]), c.endpoints[:i%len(c.endpoints)]...), DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			return 0, err
		}
		wg.Go(func() {
			defer func() { _ = cl.Close() }() // nothing is lost with it
			for ctx.Err() == nil {
				at := time.Now()
				turn, end := context.WithTimeout(ctx, 500*time.Millisecond)
				_, err := cl.Put(turn, fmt.Sprintf("outage/%d", i), "v")
				end()
				if err != nil {
					continue
				}
				select {
				case written <- at:
				case <-ctx.Done():
				}
			}
		})
	}
	for range 10 * clients {
		if err := recv(ctx, written, &time.Time{}); err != nil {
			return 0, err
		}
	}
	killed := time.Now()
	if err := c.procs[leader].Process.Kill(); err != nil {
		return 0, err
	}
	_ = c.procs[leader].Wait() // it was killed
	for at := (time.Time{}); at.Before(killed); {
		if err := recv(ctx, written, &at); err != nil {
			return 0, err
		}
	}
	took := time.Since(killed)
	cancel()
	return took, c.revive(context.WithoutCancel(ctx), leader)
}

func recv(ctx context.Context, from <-chan time.Time, at *time.Time) error {
	select {
	case *at = <-from:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no write is acknowledged: %w", ctx.Err())
	}
}

// leader is the place of the member that leads.
func (c *cluster) leader(ctx context.Context) (int, error) {
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return 0, err
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	for i, e := range c.endpoints {
		if st, err := cl.Status(ctx, e); err == nil && st.Leader == st.Header.MemberId {
			return i, nil
		}
	}
	return 0, errors.New("no member leads")
}

// revive starts a member again and waits until it answers a read.
func (c *cluster) revive(ctx context.Context, i int) error {
	old := c.procs[i]
	procs := c.procs
	if _, err := c.start(exec.Command(old.Path, old.Args[1:]...), fmt.Sprintf("%s.%d", c.logs[i], time.Now().UnixNano())); err != nil {
		return err
	}
	procs[i] = c.procs[len(procs)]
	c.procs = procs
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return firstRead(ctx, c.endpoints[i])
}
