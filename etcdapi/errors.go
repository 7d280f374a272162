package etcdapi

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/raftstore"
)

// contextError is the status of a request whose time ran out, or whose client went away.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return rpctypes.ErrGRPCDeadlineExceeded
	}
	return rpctypes.ErrGRPCCanceled
}

// submitError is the status of a write that the sequencer did not take, or whose outcome it does not know. clientv3 knows these texts: it
// repeats what is Unavailable if the request may be repeated.
func submitError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx)
	case apierrors.IsServiceUnavailable(err):
		return rpctypes.ErrGRPCNoLeader
	case apierrors.IsTooManyRequests(err):
		return rpctypes.ErrGRPCRequestTooManyRequests
	case apierrors.IsTimeout(err):
		return rpctypes.ErrGRPCTimeoutDueToLeaderFail
	case apierrors.IsBadRequest(err):
		return status.Error(codes.InvalidArgument, "etcdserver: "+err.Error())
	case errors.Is(err, raftstore.ErrStopped):
		return rpctypes.ErrGRPCStopped
	case errors.Is(err, raftstore.ErrNotLeader):
		return rpctypes.ErrGRPCLeaderChanged
	case errors.Is(err, raftstore.ErrNoSpace):
		return rpctypes.ErrGRPCNoSpace
	}
	return status.Error(codes.Internal, "etcdserver: "+err.Error())
}
