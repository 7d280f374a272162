package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits bound what one client may cost. A zero field is the default.
type Limits struct {
	// Header is for how long a request's header may come, and HeaderBytes how long it may be.
	Header      time.Duration
	HeaderBytes int
	// Idle is for how long a connection without requests is kept.
	Idle time.Duration
	// Ping is for how long an HTTP/2 connection may be silent before it is asked for a sign of life, and Pong how long that may take. This
	// ends the watches of machines that went without a word.
	Ping, Pong time.Duration
	// Stall is for how long a client may send nothing of a body that it announced, and Body for how long the whole may take, those of git
	// and of proxies aside.
	Stall, Body time.Duration
	// Connections is how many may be open at once; more are closed as they come.
	Connections int
	// Streams is how many exec, attach, port-forward, logs and proxied requests may be open at once, StreamsOfUser how many of one user. They are not
	// among Connections once they have begun.
	Streams, StreamsOfUser int
	// StreamAnswer is for how long a node's agent may take to begin an exec, attach or port-forward, StreamIdle for how long nothing may be said on
	// one by either side, and StreamSilence (of logs and proxied requests, too), which is of three minutes at least where people may hold up their terminals, for how long the system of
	// either side may confirm nothing: a machine that went without a word, or whose network did.
	StreamAnswer, StreamIdle, StreamSilence time.Duration
}

// DefaultLimits are the bounds of a server.
func DefaultLimits() Limits {
	return Limits{
		Header: 10 * time.Second, HeaderBytes: 256 << 10, Idle: 3 * time.Minute, Ping: 30 * time.Second, Pong: 15 * time.Second,
		Stall: 30 * time.Second, Body: 2 * time.Minute, Connections: 50_000,
		Streams: 2000, StreamsOfUser: 300, StreamAnswer: 30 * time.Second, StreamIdle: 4 * time.Hour, StreamSilence: 3 * time.Minute,
	}
}

// filled is l with the defaults where it says nothing.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ to, from *time.Duration }{
		{&l.Header, &d.Header}, {&l.Idle, &d.Idle}, {&l.Ping, &d.Ping}, {&l.Pong, &d.Pong}, {&l.Stall, &d.Stall}, {&l.Body, &d.Body},
		{&l.StreamAnswer, &d.StreamAnswer}, {&l.StreamIdle, &d.StreamIdle}, {&l.StreamSilence, &d.StreamSilence},
	} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ to, from *int }{
		{&l.HeaderBytes, &d.HeaderBytes}, {&l.Connections, &d.Connections}, {&l.Streams, &d.Streams}, {&l.StreamsOfUser, &d.StreamsOfUser},
	} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	return l
}

func (l Limits) validate() error {
	least := min(l.Header, l.Idle, l.Ping, l.Pong, l.Stall, l.Body, l.StreamAnswer, l.StreamIdle, l.StreamSilence)
	if least < 0 || min(l.HeaderBytes, l.Connections, l.Streams, l.StreamsOfUser) < 0 {
		return fmt.Errorf("api: Limits %+v: none may be negative", l)
	}
	return nil
}

// HTTPServer makes the http.Server that a Server of this configuration must have; how long writes may take is in pace.go. Its requests'
// contexts end with ctx.
func HTTPServer(ctx context.Context, c Config, h http.Handler) *http.Server {
	l, writes := c.Limits.filled(), c.WriteTimeout
	if writes == 0 {
		writes = writeTimeout
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: l.Header,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.HeaderBytes,
		// WriteByteTimeout ends a connection whose client takes nothing, whatever deadlines its streams have; later than these, so that their
		// ends are known for what they are.
		HTTP2:       &http.HTTP2Config{SendPingTimeout: l.Ping, PingTimeout: l.Pong, WriteByteTimeout: 2 * writes},
		ConnContext: withConn,
		ConnState:   bounded(l.Connections, c.Log),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
}

// bounded counts connections and closes those that are too many.
func bounded(most int, log *slog.Logger) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if n := open.Add(1); n > int64(most) {
				log.Warn("too many connections; closing the newest", "open", n, "bound", most, "from", c.RemoteAddr().String())
				//nolint:errcheck // the server sees it closed
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

// limit gives the reading of a request's body its deadlines: whole tells whether it must come to an end at all.
func (l Limits) limit(w http.ResponseWriter, r *http.Request, whole bool) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b := &timedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), stall: l.Stall}
	if whole {
		b.end = time.Now().Add(l.Body)
	}
	r.Body = b
}

// timedBody gives up a body of which nothing comes any more.
type timedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	stall time.Duration
	end   time.Time
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	at := time.Now().Add(b.stall)
	if !b.end.IsZero() && b.end.Before(at) {
		at = b.end
	}
	_ = b.rc.SetReadDeadline(at) // only a test's writer has none
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// HTTP/1 goes on to read, to see whether the client goes: that must not end a long answer.
		_ = b.rc.SetReadDeadline(time.Time{}) // as above
	}
	return n, err
}
