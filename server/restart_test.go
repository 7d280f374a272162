package server

import (
	"context"
	"errors"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"reconcile/internal/loopback"
)

// TestRestartedFollower stops one of three servers and starts it again, and asks it all the while, with no barrier, as agents do.
// It must say nothing until it has caught up: an agent that sees an empty cluster ends its containers.
func TestRestartedFollower(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	addrs := []string{loopback.Address(), loopback.Address(), loopback.Address()}
	all := []running{start(t, dirs[0], addrs[0], "")}
	for i := 1; i < 3; i++ {
		copyKeys(t, dirs[0], dirs[i])
		all = append(all, start(t, dirs[i], addrs[i], addrs[0]))
	}
	addNode(t, all[0].client, "n1")
	if _, err := all[0].client.AppsV1().Deployments("default").Create(t.Context(), deployment("web", 50), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bound(t, all[0].client, "web", 50)
	for range 3 {
		all[2].stop()
		asked := asking(t, all[2].client, 50)
		all[2] = start(t, dirs[2], addrs[2], addrs[0])
		if err := asked(); err != nil {
			t.Fatal(err)
		}
	}
}

// asking lists pods again and again from the server's own state, until the returned function is called. That returns an error if any
// answer had other than want pods.
func asking(t *testing.T, c kubernetes.Interface, want int) func() error {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var found error
	wg.Go(func() {
		for ctx.Err() == nil && found == nil {
			var l corev1.PodList
			// Without tries of the client's own, which pause.
			err := c.CoreV1().RESTClient().Get().Namespace("default").Resource("pods").Param("resourceVersion", "0").MaxRetries(0).Do(ctx).Into(&l)
			if err != nil {
				continue
			}
			if len(l.Items) != want {
				found = errors.New("the restarted server shows a part of the pods")
			}
		}
	})
	return func() error {
		eventually(t, "the server answers", func() (bool, string) {
			_, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
			return err == nil, ""
		})
		cancel()
		wg.Wait()
		return found
	}
}
