package stream

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"reconcile/object"
)

// quiet runs commands that say nothing and read nothing, until they are told to end.
type quiet struct{ began, ended chan struct{} }

func (q quiet) Exec(ctx context.Context, _, _, _ string, _ []string, _ Streams) (int, error) {
	q.began <- struct{}{}
	<-ctx.Done()
	q.ended <- struct{}{}
	return 0, ctx.Err()
}

func (q quiet) Attach(ctx context.Context, ns, pod, ctr string, s Streams) error {
	_, err := q.Exec(ctx, ns, pod, ctr, nil, s)
	return err
}

func (quiet) Logs(context.Context, string, string, string, LogOptions, io.Writer) error {
	return ErrNotFound
}

func (quiet) Summary(context.Context) (*statsapi.Summary, error) { return nil, nil }

func (quiet) PodMetrics(context.Context, []object.PodQuery) []object.PodSamples { return nil }

func (quiet) Metrics(context.Context) ([]byte, error) { return nil, nil }

func (quiet) Counters(context.Context) (*object.NodeCounters, error) { return nil, nil }

func (quiet) Dial(context.Context, string, string, int32) (net.Conn, error) {
	return nil, ErrNotRunning
}

// node serves a backend and tells of every request that is over.
func node(t *testing.T, b Backend, creation time.Duration) (base string, over <-chan struct{}) {
	t.Helper()
	done := make(chan struct{}, 8)
	next := newHandler(b, slog.New(slog.DiscardHandler), creation)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, done
}

// open begins a session over SPDY as client-go does, without streams.
func open(t *testing.T, to string) httpstream.Connection {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := spdy.NewRoundTripper(nil)
	if err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Method: http.MethodPost, URL: u, Header: http.Header{"X-Stream-Protocol-Version": {remotecommand.StreamProtocolV4Name}}}
	res, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.NewConnection(res)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func create(t *testing.T, c httpstream.Connection, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		if _, err := c.CreateStream(http.Header{"Streamtype": {kind}}); err != nil {
			t.Fatalf("open stream %s: %v", kind, err)
		}
	}
}

// soon waits for what must come, long before creationTimeout.
func soon[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
	}
}

// TestGoneClient demands that a command ends with its client, although nobody says or reads anything.
func TestGoneClient(t *testing.T) {
	for path, kinds := range map[string][]string{
		"/exec/ns/p/c?command=x&output=1&error=1":         {"error", "stdout", "stderr"},
		"/exec/ns/p/c?command=x&input=1&output=1&error=1": {"error", "stdin", "stdout", "stderr"},
		"/exec/ns/p/c?command=x&output=1&tty=1":           {"error", "stdout", "resize"},
		"/attach/ns/p/c?output=1&error=1":                 {"error", "stdout", "stderr"},
	} {
		q := quiet{make(chan struct{}, 1), make(chan struct{}, 1)}
		base, over := node(t, q, creationTimeout)
		c := open(t, base+path)
		create(t, c, kinds...)
		soon(t, q.began, path+" begins")
		_ = c.Close()
		soon(t, q.ended, path+" ends with its client")
		soon(t, over, "the request of "+path+" is over")
	}
}

// TestNoStreams demands that a session for which no streams are opened ends with its client, and without it after a while, its connection too.
func TestNoStreams(t *testing.T) {
	q := quiet{}
	base, over := node(t, q, time.Hour)
	c := open(t, base+"/exec/ns/p/c?command=x&output=1&error=1")
	create(t, c, "error") // not all that were asked for
	_ = c.Close()
	soon(t, over, "the request is over with its client")

	base, over = node(t, q, time.Millisecond)
	c = open(t, base+"/exec/ns/p/c?command=x&output=1&error=1")
	soon(t, over, "the request is over")
	soon(t, c.CloseChan(), "the connection is closed")
}

// TestStreamsAskedFor demands that no streams are opened beside those that were asked for.
func TestStreamsAskedFor(t *testing.T) {
	q := quiet{make(chan struct{}, 1), make(chan struct{}, 1)}
	base, _ := node(t, q, creationTimeout)
	c := open(t, base+"/exec/ns/p/c?command=x&output=1")
	create(t, c, "error", "stdout")
	soon(t, q.began, "the command begins")
	for _, kind := range []string{"stdin", "stdout", "other"} {
		s, err := c.CreateStream(http.Header{"Streamtype": {kind}})
		if err != nil {
			continue
		}
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Errorf("a stream %q that was not asked for is open", kind)
		}
	}
}
