package node

import (
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/runtime"
	"reconcile/node/stream"
	"reconcile/object"
)

var _ stream.Backend = (*Agent)(nil)

// find returns a pod of this node and the newest attempt of one of its containers, nil if there is none yet.
func (a *Agent) find(ctx context.Context, namespace, name, container string) (*corev1.Pod, *runtime.Container, *runtime.Container, error) {
	key := object.Key{Resource: "pods", Namespace: namespace, Name: name}
	a.mu.Lock()
	w := a.workers[a.keys[key]]
	a.mu.Unlock()
	if w == nil {
		return nil, nil, nil, fmt.Errorf("pod %s/%s: %w", namespace, name, stream.ErrNotFound)
	}
	w.mu.Lock()
	pod := w.want
	w.mu.Unlock()
	if findContainer(pod, container) == nil {
		return nil, nil, nil, fmt.Errorf("pod %s/%s has no container %q: %w", namespace, name, container, stream.ErrNotFound)
	}
	list, err := a.edges.Runtime.List(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	var have Have
	for _, c := range list {
		if c.Config.PodUID == string(pod.UID) && c.Config.Name == container {
			have.Containers = append(have.Containers, c)
		}
	}
	last := newest(have, container)
	var before *runtime.Container
	for i := range have.Containers {
		if last != nil && have.Containers[i].Config.Attempt == last.Config.Attempt-1 {
			before = &have.Containers[i]
		}
	}
	return pod, last, before, nil
}

// running returns the container's ID if it runs.
func (a *Agent) running(ctx context.Context, namespace, pod, container string) (string, error) {
	_, c, _, err := a.find(ctx, namespace, pod, container)
	if err != nil {
		return "", err
	}
	if c == nil || c.State != runtime.Running {
		return "", fmt.Errorf("container %q of pod %s/%s: %w", container, namespace, pod, stream.ErrNotRunning)
	}
	return c.Config.ID, nil
}

// Exec implements stream.Backend.
func (a *Agent) Exec(ctx context.Context, namespace, pod, container string, command []string, s stream.Streams) (int, error) {
	id, err := a.running(ctx, namespace, pod, container)
	if err != nil {
		return 0, err
	}
	sizes, stop := sizes(ctx, s.Resize)
	defer stop()
	code, err := a.edges.Runtime.Exec(ctx, id, runtime.ExecConfig{Args: command, TTY: s.TTY, Streams: runtime.Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Resize: sizes}})
	return code, asStreamError(err)
}

// Attach implements stream.Backend.
func (a *Agent) Attach(ctx context.Context, namespace, pod, container string, s stream.Streams) error {
	id, err := a.running(ctx, namespace, pod, container)
	if err != nil {
		return err
	}
	sizes, stop := sizes(ctx, s.Resize)
	defer stop()
	return asStreamError(a.edges.Runtime.Attach(ctx, id, runtime.Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Resize: sizes}))
}

func asStreamError(err error) error {
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		return fmt.Errorf("%w: %w", stream.ErrNotFound, err)
	case errors.Is(err, runtime.ErrNotRunning):
		return fmt.Errorf("%w: %w", stream.ErrNotRunning, err)
	}
	return err
}

// sizes converts terminal sizes until stop is called.
func sizes(ctx context.Context, in <-chan stream.Size) (<-chan runtime.Size, func()) {
	if in == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan runtime.Size, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		for {
			select {
			case s, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- runtime.Size{Width: s.Width, Height: s.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, func() { cancel(); <-done }
}

// Logs implements stream.Backend.
func (a *Agent) Logs(ctx context.Context, namespace, pod, container string, o stream.LogOptions, w io.Writer) error {
	p, last, before, err := a.find(ctx, namespace, pod, container)
	if err != nil {
		return err
	}
	c := last
	if o.Previous {
		if c = before; c == nil {
			return fmt.Errorf("previous terminated container %q in pod %q: %w", container, p.Name, stream.ErrNotFound)
		}
	}
	if c == nil {
		return fmt.Errorf("container %q in pod %q is waiting to start: %w", container, p.Name, stream.ErrNotRunning)
	}
	id := c.Config.ID
	ended := func() bool {
		list, err := a.edges.Runtime.List(ctx)
		if err != nil {
			return false
		}
		for _, x := range list {
			if x.Config.ID == id {
				return x.State == runtime.Exited
			}
		}
		return true
	}
	if o.Previous {
		return stream.ReadLog(ctx, c.Config.LogPath, o, ended, w)
	}
	return stream.AwaitLog(ctx, c.Config.LogPath, o, ended, w)
}
