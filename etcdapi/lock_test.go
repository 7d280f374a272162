package etcdapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// rawCodec passes messages as bytes: the generated code of Lock and Election is part of etcd's server.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// msg is a message of fields: number, value, number, value; a value is a string or an int64.
func msg(fields ...any) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		n := protowire.Number(fields[i].(int))
		switch v := fields[i+1].(type) {
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
		case int64:
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		}
	}
	return b
}

// parts are the fields of a message.
type parts struct {
	text map[int]string
	num  map[int]int64
	err  error
}

func partsOf(b []byte, err error) parts {
	p := parts{text: map[int]string{}, num: map[int]int64{}, err: err}
	for len(b) > 0 {
		n, kind, l := protowire.ConsumeTag(b)
		if b = b[l:]; kind == protowire.VarintType {
			v, l := protowire.ConsumeVarint(b)
			p.num[int(n)], b = int64(v), b[l:]
			continue
		}
		v, l := protowire.ConsumeBytes(b)
		p.text[int(n)], b = string(v), b[l:]
	}
	return p
}

func invoke(ctx context.Context, conn *grpc.ClientConn, method string, req []byte) parts {
	var out []byte
	err := conn.Invoke(ctx, "/"+method, req, &out, grpc.ForceCodec(rawCodec{}))
	return partsOf(out, err)
}

func dialMember(t *testing.T, b *bare, i int) *grpc.ClientConn {
	conn := must(grpc.NewClient(b.peers[i].Etcd, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// rig of locks: a cluster of three, a connection to each, and leases.
type lockRig struct {
	t     *testing.T
	ctx   context.Context
	b     *bare
	c     *clientv3.Client
	conns []*grpc.ClientConn
}

func newLockRig(t *testing.T) *lockRig {
	b := newBare(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	r := &lockRig{t: t, ctx: ctx, b: b, c: b.client()}
	for i := range b.peers {
		r.conns = append(r.conns, dialMember(t, b, i))
	}
	return r
}

func (r *lockRig) lease() int64 { return int64(must(r.c.Grant(r.ctx, 600))(r.t).ID) }

// made is the revision at which a key was made.
func (r *lockRig) made(key string) int64 {
	r.t.Helper()
	g := must(r.c.Get(r.ctx, key))(r.t)
	if len(g.Kvs) != 1 {
		r.t.Fatalf("there is no key %s", key)
	}
	return g.Kvs[0].CreateRevision
}

// lock asks member i for a lock, beside the test.
func (r *lockRig) lock(ctx context.Context, i int, name string, lease int64) <-chan parts {
	out := make(chan parts, 1)
	go func() { out <- invoke(ctx, r.conns[i], "v3lockpb.Lock/Lock", msg(1, name, 2, lease)) }()
	return out
}

// waits returns when the lease has its place in the queue, and fails the test if it has the lock.
func (r *lockRig) waits(name string, lease int64, got <-chan parts) {
	r.t.Helper()
	eventually(r.t, "the lease waits", func() bool {
		return must(r.c.Get(r.ctx, fmt.Sprintf("%s/%x", name, lease)))(r.t).Count == 1
	})
	select {
	case p := <-got:
		r.t.Fatalf("a lock that is held was given out: %v", p)
	default:
	}
}

// TestLockService: Lock and Unlock of etcd's Lock service, by all members: one holds it at a time, in order; the revision of its key, the fencing token,
// grows; a lease that is lost gives it, or its place in the queue, away; so does one who waits no longer.
func TestLockService(t *testing.T) {
	t.Parallel()
	r := newLockRig(t)
	one, two, three, four := r.lease(), r.lease(), r.lease(), r.lease()
	held := <-r.lock(r.ctx, 0, "l", one)
	key := fmt.Sprintf("l/%x", one)
	if held.err != nil || held.text[2] != key || held.text[1] == "" {
		t.Fatalf("a free lock: %v", held)
	}
	token := r.made(key)
	if again := <-r.lock(r.ctx, 1, "l", one); again.err != nil || again.text[2] != key || r.made(key) != token {
		t.Errorf("the same lease again: %v", again)
	}
	second := r.lock(r.ctx, 1, "l", two)
	r.waits("l", two, second)
	impatient, cancel := context.WithCancel(r.ctx)
	third := r.lock(impatient, 2, "l", three)
	r.waits("l", three, third)
	fourth := r.lock(r.ctx, 2, "l", four)
	r.waits("l", four, fourth)
	if u := invoke(r.ctx, r.conns[2], "v3lockpb.Lock/Unlock", msg(1, key)); u.err != nil || u.text[1] == "" {
		t.Errorf("unlock: %v", u)
	}
	p := <-second
	if p.err != nil || r.made(p.text[2]) <= token {
		t.Fatalf("the second: %v", p)
	}
	token = r.made(p.text[2])
	cancel() // the third gives up
	if p := <-third; p.err == nil {
		t.Errorf("who gave up has the lock: %v", p)
	}
	eventually(t, "the place of who gave up is free", func() bool { return must(r.c.Get(r.ctx, fmt.Sprintf("l/%x", three)))(t).Count == 0 })
	must(r.c.Revoke(r.ctx, clientv3.LeaseID(two)))(t)
	p = <-fourth
	if p.err != nil || r.made(p.text[2]) <= token {
		t.Fatalf("the fourth, after the second's lease was lost: %v", p)
	}
	five, six := r.lease(), r.lease()
	fifth := r.lock(r.ctx, 0, "l", five)
	r.waits("l", five, fifth)
	must(r.c.Revoke(r.ctx, clientv3.LeaseID(five)))(t)
	if p := <-fifth; p.err == nil || !strings.Contains(p.err.Error(), "session is expired") {
		t.Errorf("who lost its lease while it waited: %v", p)
	}
	if p := <-r.lock(r.ctx, 0, "l2", five); p.err == nil || !strings.Contains(p.err.Error(), "requested lease not found") {
		t.Errorf("a lease that is gone: %v", p)
	}
	// Etcd's own recipe stands in the same queue.
	session := must(concurrency.NewSession(r.c, concurrency.WithLease(clientv3.LeaseID(six))))(t)
	mutex := concurrency.NewMutex(session, "l")
	got := make(chan error, 1)
	go func() { got <- mutex.Lock(r.ctx) }()
	eventually(t, "the recipe waits", func() bool { return must(r.c.Get(r.ctx, fmt.Sprintf("l/%x", six)))(t).Count == 1 })
	if u := invoke(r.ctx, r.conns[0], "v3lockpb.Lock/Unlock", msg(1, p.text[2])); u.err != nil {
		t.Error(u.err)
	}
	if err := <-got; err != nil {
		t.Errorf("the recipe behind the service: %v", err)
	}
	last := r.lock(r.ctx, 1, "l", 0) // without a lease it gets one of a minute
	eventually(t, "two wait", func() bool { return must(r.c.Get(r.ctx, "l/", clientv3.WithPrefix()))(t).Count == 2 })
	if err := mutex.Unlock(r.ctx); err != nil {
		t.Error(err)
	}
	p = <-last
	if p.err != nil {
		t.Fatal(p.err)
	}
	var lease int64
	if _, err := fmt.Sscanf(p.text[2], "l/%x", &lease); err != nil {
		t.Fatal(err)
	}
	if ttl := must(r.c.TimeToLive(r.ctx, clientv3.LeaseID(lease)))(t); ttl.GrantedTTL != 60 {
		t.Errorf("the lease of one without a lease is %+v", ttl)
	}
}

// observe collects what an election's observer is told, as VALUE@KEY.
func (r *lockRig) observe(i int, name string) <-chan string {
	stream := must(r.conns[i].NewStream(r.ctx, &grpc.StreamDesc{ServerStreams: true}, "/v3electionpb.Election/Observe", grpc.ForceCodec(rawCodec{})))(r.t)
	if err := stream.SendMsg(msg(1, name)); err != nil {
		r.t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		r.t.Fatal(err)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for {
			var b []byte
			if err := stream.RecvMsg(&b); err != nil {
				if errors.Is(err, io.EOF) {
					out <- "ended"
				}
				return
			}
			kv := &mvccpb.KeyValue{}
			if err := proto.Unmarshal([]byte(partsOf(b, nil).text[2]), kv); err != nil {
				out <- err.Error()
			}
			out <- fmt.Sprintf("%s@%s", kv.Value, kv.Key)
		}
	}()
	return out
}

// TestElectionService: two campaign; who is elected proclaims, resigns, or loses its lease; observers are told each value, in order.
func TestElectionService(t *testing.T) {
	t.Parallel()
	r := newLockRig(t)
	call := func(i int, method string, req []byte) parts {
		return invoke(r.ctx, r.conns[i], "v3electionpb.Election/"+method, req)
	}
	if p := call(1, "Leader", msg(1, "e")); p.err == nil || !strings.Contains(p.err.Error(), "election: no leader") {
		t.Errorf("the leader of no election: %v", p)
	}
	if p := call(1, "Proclaim", nil); p.err == nil || !strings.Contains(p.err.Error(), `"leader" field must be provided`) {
		t.Errorf("a proclamation by nobody: %v", p)
	}
	seen := r.observe(2, "e")
	one, two := r.lease(), r.lease()
	first := call(0, "Campaign", msg(1, "e", 2, one, 3, "one"))
	if first.err != nil {
		t.Fatal(first.err)
	}
	holder := partsOf([]byte(first.text[2]), nil)
	key := fmt.Sprintf("e/%x", one)
	told := func(want string) {
		t.Helper()
		select {
		case have := <-seen:
			if have != want {
				t.Fatalf("the observer was told %s, not %s", have, want)
			}
		case <-r.ctx.Done():
			t.Fatalf("the observer was never told %s", want)
		}
	}
	told("one@" + key) // it has begun: one who begins later is told of what is then, and not of what was
	if holder.text[1] != "e" || holder.text[2] != key || holder.num[3] != r.made(key) || holder.num[4] != one {
		t.Errorf("who was elected is %v", holder)
	}
	elected := make(chan parts, 1)
	go func() { elected <- call(1, "Campaign", msg(1, "e", 2, two, 3, "two")) }()
	r.waits("e", two, elected)
	if p := call(2, "Proclaim", msg(1, first.text[2], 2, "one again")); p.err != nil {
		t.Error(p.err)
	}
	leader := func(i int) string {
		p := call(i, "Leader", msg(1, "e"))
		if p.err != nil {
			t.Fatal(p.err)
		}
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal([]byte(p.text[2]), kv); err != nil {
			t.Fatal(err)
		}
		return string(kv.Value)
	}
	for i := range r.conns {
		if have := leader(i); have != "one again" {
			t.Errorf("member %d says that %q is elected", i, have)
		}
	}
	if p := call(2, "Resign", msg(1, first.text[2])); p.err != nil {
		t.Error(p.err)
	}
	second := <-elected
	if second.err != nil {
		t.Fatal(second.err)
	}
	if rev := partsOf([]byte(second.text[2]), nil).num[3]; rev <= holder.num[3] {
		t.Errorf("the token of the second is %d, that of the first was %d", rev, holder.num[3])
	}
	if p := call(0, "Proclaim", msg(1, first.text[2], 2, "one, late")); p.err == nil || !strings.Contains(p.err.Error(), "election: not leader") {
		t.Errorf("a proclamation of one who has resigned: %v", p)
	}
	if p := call(0, "Resign", msg(1, first.text[2])); p.err != nil || leader(0) != "two" {
		t.Errorf("who resigns twice takes the second with it: %v", p)
	}
	if p := call(0, "Campaign", msg(1, "e", 2, two, 3, "two again")); p.err != nil {
		t.Error(p.err)
	}
	must(r.c.Revoke(r.ctx, clientv3.LeaseID(two)))(t)
	three := r.lease()
	if p := call(1, "Campaign", msg(1, "e", 2, three, 3, "three")); p.err != nil {
		t.Error(p.err)
	}
	for _, want := range []string{"one again@" + key, fmt.Sprintf("two@e/%x", two), fmt.Sprintf("two again@e/%x", two), fmt.Sprintf("three@e/%x", three)} {
		told(want)
	}
}
