package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// freshLimit is how long a read waits to be fresh enough before it tells the client that it is not.
const freshLimit = 3 * time.Second

// fresh returns a view for a read that asks for a resource version, by Kubernetes' rules: none means the newest state of the
// cluster, 0 any state, and a number that state or a later one.
func (s *Server) fresh(ctx context.Context, resourceVersion string) (View, error) {
	rev, err := parseRev(resourceVersion)
	if err != nil {
		return nil, err
	}
	switch {
	case resourceVersion == "":
		if err := s.cfg.Store.Barrier(ctx); err != nil {
			return nil, unavailable(err)
		}
	case rev > 0:
		if err := s.await(ctx, rev); err != nil {
			return nil, err
		}
	}
	return s.cfg.Store.View(), nil
}

// await waits until the view shows a revision that the client has seen elsewhere.
func (s *Server) await(ctx context.Context, rev uint64) error {
	if s.cfg.Store.View().Rev() >= rev {
		return nil
	}
	wctx, cancel := context.WithTimeout(ctx, freshLimit)
	defer cancel()
	if err := s.cfg.Store.Wait(wctx, rev); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	e := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rev, s.cfg.Store.View().Rev()), 1)
	e.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return e
}

// tooNew tells that a client asked for a state that this server has not come to.
func tooNew(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// unavailable is a read that could not learn what is newest: there is no leader.
func unavailable(err error) error {
	var st apierrors.APIStatus
	if errors.Is(err, context.Canceled) || errors.As(err, &st) {
		return nothingDone(err)
	}
	return nothingDone(apierrors.NewServiceUnavailable("the cluster has no leader at present: " + err.Error()))
}

// nothingDone tells the client to try again where the sequencer says that nothing was changed because there is no leader (503):
// clients repeat a request, a POST too, only with Retry-After.
func nothingDone(err error) error {
	var st *apierrors.StatusError
	if !errors.As(err, &st) || st.ErrStatus.Code != http.StatusServiceUnavailable {
		return err
	}
	out := *st
	out.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return &out
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err != nil {
		return err
	}
	o, err := s.live(r.Context(), t, t.query.Get("resourceVersion"))
	if err != nil {
		return err
	}
	s.sendObject(w, r, http.StatusOK, t.kind, a, o, stored)
	return nil
}

// live returns the stored object that a request names.
func (s *Server) live(ctx context.Context, t target, resourceVersion string) (object.Object, error) {
	view, err := s.fresh(ctx, resourceVersion)
	if err != nil {
		return nil, err
	}
	o, ok := view.Get(t.key())
	if !ok {
		return nil, apierrors.NewNotFound(t.groupResource(), t.name)
	}
	return o, nil
}
