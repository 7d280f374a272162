package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watchesOfConnection is how many watches share a connection: kube-apiserver takes a hundred.
const watchesOfConnection = 50

// fan changes one object that many watch, and waits until all have seen all changes. An operation is one event to one watcher.
func fan(ctx context.Context, s *side, watchers, changes int) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := s.client(false)
	if err != nil {
		return result{}, err
	}
	maps := c.CoreV1().ConfigMaps(namespace)
	o, err := maps.Get(ctx, "known-0", metav1.GetOptions{})
	if err != nil {
		return result{}, err
	}
	var seen sync.WaitGroup
	var lost atomic.Int64
	seen.Add(watchers)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := 0; i < watchers; i += watchesOfConnection {
		conn, err := s.client(false)
		if err != nil {
			return result{}, err
		}
		for range watchesOfConnection {
			g.Go(func() error {
				body, err := conn.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/"+namespace+"/configmaps").
					Param("watch", "true").Param("resourceVersion", o.ResourceVersion).Param("fieldSelector", "metadata.name=known-0").
					SetHeader("Accept", "application/vnd.kubernetes.protobuf;stream=watch").Stream(ctx)
				if err != nil {
					seen.Done()
					return err
				}
				go func() {
					defer seen.Done()
					defer body.Close()
					if err := readFrames(body, changes); err != nil {
						lost.Add(1)
					}
				}()
				return gctx.Err()
			})
		}
	}
	if err := g.Wait(); err != nil {
		return result{}, err
	}
	r, err := s.measured(watchers*changes, func() error {
		for n := range changes {
			m := configMap("known-0")
			m.Data["n"] = fmt.Sprint(o.ResourceVersion, n)
			if _, err := maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		seen.Wait()
		return nil
	})
	if n := lost.Load(); err == nil && n > 0 {
		err = fmt.Errorf("%d watches ended early", n)
	}
	return r, err
}

// readFrames reads so many events of a watch in protobuf: each has its length before it, in four bytes.
func readFrames(r io.Reader, n int) error {
	var head [4]byte
	for range n {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
			return err
		}
	}
	return nil
}
