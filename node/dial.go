package node

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reconcile/node/stream"
	"reconcile/object"
)

// dialTimeout bounds a connection to a pod's loopback.
const dialTimeout = 10 * time.Second

// Dial implements stream.Backend: it connects to a port on the pod's loopback, IPv4 first. The connection stays in the pod's network
// wherever it is used.
func (a *Agent) Dial(ctx context.Context, namespace, pod string, port int32) (net.Conn, error) {
	a.mu.Lock()
	w := a.workers[a.keys[object.Key{Resource: "pods", Namespace: namespace, Name: pod}]]
	a.mu.Unlock()
	if w == nil {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, pod, stream.ErrNotFound)
	}
	boxes, err := a.edges.Runtime.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	for _, sb := range boxes {
		if sb.Config.PodUID != w.uid || !sb.Alive {
			continue
		}
		conn, err := dialIn(ctx, sb.NetNS, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err != nil {
			if six, err := dialIn(ctx, sb.NetNS, net.JoinHostPort("::1", strconv.Itoa(int(port)))); err == nil {
				return six, nil
			}
		}
		return conn, err
	}
	return nil, fmt.Errorf("pod %s/%s: %w", namespace, pod, stream.ErrNotRunning)
}

// dialIn connects to an IP address and port from within a network namespace; an empty one is the agent's own.
func dialIn(ctx context.Context, netns, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if netns == "" {
		return d.DialContext(ctx, "tcp", address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, since it is in another namespace than the rest.
		runtime.LockOSThread()
		if err := enter(netns); err != nil {
			done <- result{nil, err}
			return
		}
		conn, err := d.DialContext(ctx, "tcp", address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func enter(netns string) error {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the pod's network: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the pod's network: %w", err)
	}
	return nil
}
