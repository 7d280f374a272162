package api

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"reconcile/authz"
)

// connKey finds a request's connection in its context.
type connKey struct{}

// withConn remembers the connection for the requests that come on it.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// vigil watches over an answer that goes on for as long as somebody wants it (a followed log, what a proxy passes on): it ends when the system of the
// client or of whoever the answer comes from has confirmed nothing for Limits.StreamSilence. What is tunnelled has its own (tunnel).
type vigil struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	behind net.Conn
}

// keepVigil begins it. The request that it returns is the one to go on with: it ends with the vigil. end must be called when the answer is over.
func (s *Server) keepVigil(r *http.Request, what string) (with *http.Request, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	v := &vigil{cancel: cancel}
	client, _ := ctx.Value(connKey{}).(net.Conn)
	limit := s.cfg.Limits.StreamSilence
	probe(client, limit)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		probe(i.Conn, limit)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.behind = i.Conn
	}})
	v.done.Go(func() {
		if why := v.watch(ctx, client, limit); why != "" {
			s.cfg.Log.Info("a stream is ended", "reason", why, "kind", what, "path", r.URL.Path, "client", r.RemoteAddr, "user", authz.UserFrom(ctx).Name)
			cancel()
		}
	})
	return r.WithContext(ctx), func() {
		cancel()
		v.done.Wait()
	}
}

// watch returns why the answer must end, or nothing when it is over.
func (v *vigil) watch(ctx context.Context, client net.Conn, limit time.Duration) string {
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
		v.mu.Lock()
		behind := v.behind
		v.mu.Unlock()
		switch {
		case lost(client, limit):
			return "the client's machine confirms nothing"
		case lost(behind, limit):
			return "the machine that answers confirms nothing"
		}
	}
}

// lost is silent for a connection that somebody else closes when it has ended, which is no loss.
func lost(c net.Conn, limit time.Duration) bool {
	t := tcpOf(c)
	if t == nil {
		return false
	}
	since, open := heardFrom(t)
	return open && since > limit
}
