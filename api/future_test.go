package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// growing is a store that comes to revision 10 after a while, and no further.
type growing struct {
	Store
	began time.Time
	after time.Duration
}

type growingView struct {
	View
	rev uint64
}

func (v growingView) Rev() uint64 { return v.rev }

func (g growing) View() View {
	if time.Since(g.began) < g.after {
		return growingView{rev: 9}
	}
	return growingView{rev: 10}
}

func (g growing) Wait(ctx context.Context, rev uint64) error {
	if rev > 10 {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(g.after - time.Since(g.began)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestResourceVersionFromTheFuture: a read that asks for a state which this server has not come to waits for it, three seconds, and then tells the
// client in the words of which client-go knows that it may try again elsewhere.
func TestResourceVersionFromTheFuture(t *testing.T) {
	for name, tc := range map[string]struct {
		rv    string
		after time.Duration
		takes time.Duration
		late  bool
	}{
		"it is there":     {rv: "9", after: time.Hour},
		"it comes":        {rv: "10", after: 2900 * time.Millisecond, takes: 2900 * time.Millisecond},
		"it comes late":   {rv: "10", after: 3100 * time.Millisecond, takes: 3 * time.Second, late: true},
		"it never comes":  {rv: "11", takes: 3 * time.Second, late: true},
		"any state would": {rv: "0", after: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{cfg: Config{Store: growing{began: time.Now(), after: tc.after}}}
				began := time.Now()
				v, err := s.fresh(t.Context(), tc.rv)
				if took := time.Since(began); took != tc.takes {
					t.Errorf("it took %s, want %s", took, tc.takes)
				}
				if !tc.late {
					if err != nil || v == nil {
						t.Errorf("it says %v", err)
					}
					return
				}
				if !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
					t.Fatalf("it says %#v", err)
				}
				if st := err.(apierrors.APIStatus).Status(); st.Code != 504 || st.Details.RetryAfterSeconds != 1 { //nolint:errorlint // IsTimeout has found it
					t.Errorf("the status is %+v", st)
				}
			})
		})
	}
}

// A client that goes away while it waits is not told that its revision is too large.
func TestClientThatGoesWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &Server{cfg: Config{Store: growing{began: time.Now()}}}
		if _, err := s.fresh(ctx, "11"); err == nil || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			t.Errorf("it says %v", err)
		}
	})
}
