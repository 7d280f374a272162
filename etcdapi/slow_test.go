package etcdapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"reconcile/internal/testcluster/member"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// ended is what the log says of a stream whose client does not read.
const ended = "does not take what is sent to it"

// impatient is a bare cluster of one whose streams do not wait long, with its log.
func impatient(t *testing.T) (*bare, *lines) {
	log := &lines{}
	return newBare(t, 1, func(c *member.Config) {
		c.SendTimeout = 300 * time.Millisecond
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	}), log
}

// narrow is a connection that takes 64 KiB a stream before it is read.
func narrow(t *testing.T, b *bare) *grpc.ClientConn {
	conn := must(grpc.NewClient(b.peers[0].Etcd, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20))))(t)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestSlowWatcher: a client that stops reading loses its stream and nothing else. Others are not held up meanwhile, and when it comes back where it
// was, it has missed nothing.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	b, log := impatient(t)
	c := b.client()
	prefix := &pb.WatchCreateRequest{Key: []byte("k/"), RangeEnd: []byte("k0")}
	slow := must(pb.NewWatchClient(narrow(t, b)).Watch(t.Context()))(t)
	create(t, slow, prefix)
	quick := c.Watch(t.Context(), "k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-quick
	const n = 200
	for i := range n {
		must(c.Put(t.Context(), fmt.Sprintf("k/%03d", i), strings.Repeat("x", 8<<10)))(t)
	}
	if got := collect(t, quick, n); len(got) != n {
		t.Errorf("the client that reads saw %d events of %d", len(got), n)
	}
	eventually(t, "the slow client's stream is ended", func() bool { return log.has(ended) })
	var seen []string
	from := int64(0)
	for {
		r, err := slow.Recv()
		if err != nil {
			if status.Code(err) != codes.Unavailable { // what clientv3 resumes after
				t.Errorf("the stream ended with %v", err)
			}
			break
		}
		for _, e := range r.Events {
			seen, from = append(seen, string(e.Kv.Key)), e.Kv.ModRevision
		}
	}
	if len(seen) == 0 || len(seen) == n {
		t.Fatalf("the slow client saw %d events of %d before it was cut off", len(seen), n)
	}
	for _, e := range collect(t, c.Watch(t.Context(), "k/", clientv3.WithPrefix(), clientv3.WithRev(from+1)), n-len(seen)) {
		seen = append(seen, string(e.Kv.Key))
	}
	for i, key := range seen {
		if key != fmt.Sprintf("k/%03d", i) {
			t.Fatalf("event %d is of %s", i, key)
		}
	}
}

// TestSlowClientResumes does the same with etcd's own client, which resumes by itself: it looks again after the server cut it off.
func TestSlowClientResumes(t *testing.T) {
	t.Parallel()
	b, log := impatient(t)
	c := b.client()
	must(c.Put(t.Context(), "big", "0"))(t)
	reader := must(clientv3.New(clientv3.Config{Endpoints: []string{b.peers[0].Etcd}, DialOptions: []grpc.DialOption{
		grpc.WithContextDialer(stuck(2<<20, log)), grpc.WithTransportCredentials(insecure.NewCredentials())}}))(t)
	defer reader.Close()
	w := reader.Watch(t.Context(), "k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-w
	const n = 40
	for i := range n {
		must(c.Put(t.Context(), fmt.Sprintf("k/%03d", i), strings.Repeat("x", 256<<10)))(t)
	}
	eventually(t, "the stream is ended", func() bool { return log.has(ended) })
	for i, e := range collect(t, w, n) {
		if string(e.Kv.Key) != fmt.Sprintf("k/%03d", i) {
			t.Fatalf("event %d is of %s", i, e.Kv.Key)
		}
	}
}

// stuck dials connections that give their reader so many bytes and then none, until the log says that the stream was ended.
func stuck(most int, log *lines) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &stuckConn{Conn: c, closed: make(chan struct{}), left: most, log: log}, c.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
}

type stuckConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	left   int
	log    *lines
}

// Close implements net.Conn.
func (s *stuckConn) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// Read implements net.Conn.
func (s *stuckConn) Read(p []byte) (int, error) {
	for s.left <= 0 && !s.log.has(ended) {
		select {
		case <-s.closed:
			return 0, io.ErrClosedPipe
		case <-time.After(5 * time.Millisecond):
		}
	}
	n, err := s.Conn.Read(p)
	s.left -= n
	return n, err
}

// TestSlowReader: a range that nobody reads does not pin a view of the state for ever.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	b, log := impatient(t)
	c := b.client()
	for i := range 40 {
		must(c.Put(t.Context(), fmt.Sprintf("k/%03d", i), strings.Repeat("x", 128<<10)))(t)
	}
	stream := must(pb.NewKVClient(narrow(t, b)).RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("k/"), RangeEnd: []byte("k0")}))(t)
	eventually(t, "the stream is ended", func() bool { return log.has(ended) })
	for {
		if _, err := stream.Recv(); err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the stream ended with %v", err)
			}
			return
		}
	}
}

// TestResponsesAreBounded: what a watch sends at once is bounded, and no response's header runs ahead of what is still to come.
func TestResponsesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c := b.client()
	const n, size = 24, 512 << 10
	for i := range n {
		must(c.Put(t.Context(), fmt.Sprintf("k/%03d", i), strings.Repeat("x", size)))(t)
	}
	w := raw(t, b)
	create(t, w, &pb.WatchCreateRequest{Key: []byte("k/"), RangeEnd: []byte("k0"), StartRevision: 1})
	header := int64(0)
	for seen := 0; seen < n; {
		r := must(w.Recv())(t)
		if len(r.Events)*size > 3<<20 {
			t.Errorf("a response holds %d MiB", len(r.Events)*size>>20)
		}
		if first := r.Events[0].Kv.ModRevision; first <= header {
			t.Errorf("the header said %d, and revision %d came after it", header, first)
		}
		header = r.Header.Revision
		seen += len(r.Events)
	}
}

// TestProgressRequestsShareAnswers: requests that nobody reads the answers of start nothing.
func TestProgressRequestsShareAnswers(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	w := must(pb.NewWatchClient(narrow(t, b)).Watch(t.Context()))(t)
	create(t, w, &pb.WatchCreateRequest{Key: []byte("k")})
	for range 20_000 {
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
			t.Fatal(err)
		}
	}
	// The stream's order tells when the server has taken all of them.
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 0}}}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(stacks(), ").progressAll("); n > 100 {
		t.Errorf("%d goroutines make progress answers of one stream", n)
	}
	answers := 0
	for {
		r := must(w.Recv())(t)
		if r.Canceled {
			break
		}
		answers++
	}
	if answers == 0 {
		t.Error("no request was answered")
	}
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 64<<20)
	return string(b[:runtime.Stack(b, true)])
}
