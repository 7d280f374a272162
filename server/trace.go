package server

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// withWrote sets wrote once a request was written to its connection: from then on the other end may have acted on it.
func withWrote(ctx context.Context, wrote *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { wrote.Store(true) },
	})
}
