package clients

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// TestLeaderElection lets two candidates want one lease: one leads, and the other when that one goes.
func TestLeaderElection(t *testing.T) {
	t.Parallel()
	ns, c := namespace(t), clientset(t)
	type change struct {
		who   string
		leads bool
	}
	changes := make(chan change, 10)
	var wg sync.WaitGroup
	defer wg.Wait()
	candidate := func(who string) context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "lead", Namespace: ns}, Client: c.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: who}},
				LeaseDuration: time.Minute, RenewDeadline: 40 * time.Second, RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { changes <- change{who, true} },
					OnStoppedLeading: func() { changes <- change{who, false} },
				},
			})
		})
		return cancel
	}
	next := func() change {
		t.Helper()
		select {
		case ch := <-changes:
			return ch
		case <-time.After(90 * time.Second):
			t.Fatal(errors.New("nothing changed within 90 s"))
			return change{}
		}
	}
	stop := map[string]context.CancelFunc{"a": candidate("a")}
	defer func() {
		for _, cancel := range stop {
			cancel()
		}
	}()
	if got := next(); got != (change{"a", true}) {
		t.Fatal(got)
	}
	stop["b"] = candidate("b")
	eventually(t, "a renews", func() error {
		lease, err := c.CoordinationV1().Leases(ns).Get(t.Context(), "lead", metav1.GetOptions{})
		if err == nil && (*lease.Spec.HolderIdentity != "a" || !lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time)) {
			err = errors.New(lease.String())
		}
		return err
	})
	stop["a"]()
	for _, want := range []change{{"a", false}, {"b", true}} {
		if got := next(); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}
