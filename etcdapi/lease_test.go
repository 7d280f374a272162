package etcdapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"reconcile/etcdapi"
	"reconcile/internal/testcluster/member"
	"reconcile/raftstore"
)

// TestLease: keys go with their lease, when it is revoked and when it runs out, in order and under one revision.
func TestLease(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	for name, of := range map[string]int{"leader": b.leader(), "follower": b.follower()} {
		t.Run(name, func(t *testing.T) {
			c, ctx, p := b.client(of), t.Context(), name+"/"
			l := must(c.Grant(ctx, 60))(t)
			for _, k := range []string{"c", "a", "b"} {
				must(c.Put(ctx, p+k, "v", clientv3.WithLease(l.ID)))(t)
			}
			must(c.Put(ctx, p+"b", "free"))(t) // a put without the lease takes the key off it
			if kv := must(c.Get(ctx, p+"a"))(t).Kvs[0]; kv.Lease != int64(l.ID) {
				t.Errorf("the key hangs on lease %d", kv.Lease)
			}
			ttl := must(c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys()))(t)
			if ttl.GrantedTTL != 60 || ttl.TTL < 50 || ttl.TTL > 60 || len(ttl.Keys) != 2 || string(ttl.Keys[0]) != p+"a" {
				t.Errorf("the lease is %+v", ttl)
			}
			if r := must(c.KeepAliveOnce(ctx, l.ID))(t); r.TTL != 60 {
				t.Errorf("the renewal says %v", r)
			}
			_, err := c.Do(ctx, clientv3.OpGet("x"))
			if err != nil {
				t.Fatal(err)
			}
			w := c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			<-w
			must(c.Revoke(ctx, l.ID))(t)
			events := collect(t, w, 2)
			if story(events) != "DELETE "+p+"a=; DELETE "+p+"c=" || events[0].Kv.ModRevision != events[1].Kv.ModRevision {
				t.Errorf("the revocation told %s", story(events))
			}
			_, err = c.Revoke(ctx, l.ID)
			fails(t, err, rpctypes.ErrLeaseNotFound)
			if r := must(c.TimeToLive(ctx, l.ID))(t); r.TTL != -1 {
				t.Errorf("a lease that is gone has %d s left", r.TTL)
			}
			if _, err := c.KeepAliveOnce(ctx, l.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Errorf("renewing a lease that is gone says %v", err)
			}
			short := must(c.Grant(ctx, 5))(t) // a busy machine must be able to put a key on it
			must(c.Put(ctx, p+"short", "v", clientv3.WithLease(short.ID)))(t)
			if have := story(collect(t, w, 2)); have != "PUT "+p+"short=v; DELETE "+p+"short=" {
				t.Errorf("the lease that ran out told %s", have)
			}
			for _, s := range must(c.Leases(ctx))(t).Leases {
				if s.ID == short.ID || s.ID == l.ID {
					t.Errorf("lease %x is still listed", s.ID)
				}
			}
		})
	}
}

// TestFollowersHearOfLeasesAndCompactions: neither takes a revision, and a follower that hears of commits late shows both even so.
func TestFollowersHearOfLeasesAndCompactions(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, func(c *member.Config) { c.Store.CommitTimeout = 500 * time.Millisecond })
	lead, far, ctx := b.client(b.leader()), b.client(b.follower()), t.Context()
	must(lead.Put(ctx, "k", "1"))(t)
	must(lead.Put(ctx, "k", "2"))(t)
	must(far.Get(ctx, "k"))(t)
	l := must(lead.Grant(ctx, 60))(t)
	if ttl := must(far.TimeToLive(ctx, l.ID))(t); ttl.GrantedTTL != 60 {
		t.Errorf("the follower says of a lease that was granted: %+v", ttl)
	}
	must(lead.Compact(ctx, 2))(t)
	_, err := far.Get(ctx, "k", clientv3.WithRev(1))
	fails(t, err, rpctypes.ErrCompacted)
	must(lead.Revoke(ctx, l.ID))(t)
	if list := must(far.Leases(ctx))(t).Leases; len(list) != 0 {
		t.Errorf("the follower lists %v after the lease was revoked", list)
	}
}

// TestLeaseOfNoID: an ID that the store does not take is refused to the one who asks, and the writes beside it go on. It may also come
// from another member, past whose door it slipped.
func TestLeaseOfNoID(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	lead := b.leader()
	conn := must(grpc.NewClient(b.peers[lead].Etcd, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer conn.Close()
	leases, kv := pb.NewLeaseClient(conn), pb.NewKVClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	forwarded := func(r *pb.LeaseGrantRequest) func() error {
		return func() error {
			const grant = 4 // kindGrant
			txn := must(etcdapi.Codec{}.Txn(append([]byte{grant}, must(proto.Marshal(r))(t)...)))(t)
			a, err := b.members[lead].Sequencer.SubmitTxn(ctx, txn)
			if err != nil {
				return err
			}
			return errors.New(string(a.AppendTo(nil))) // an answer that is an error holds its text
		}
	}
	for _, tc := range []struct {
		name, want string
		ask        func() error
	}{
		{"grant", "must be above 0", func() error {
			_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: -5, TTL: 60})
			return err
		}},
		{"forwarded grant", "must be above 0", forwarded(&pb.LeaseGrantRequest{ID: -5, TTL: 60})},
		{"forwarded grant of ID 0", "must be above 0", forwarded(&pb.LeaseGrantRequest{TTL: 60})},
		{"forwarded grant of no TTL", "must be above 0", forwarded(&pb.LeaseGrantRequest{ID: 5, TTL: -1})},
		{"forwarded grant of a long TTL", "too large lease TTL", forwarded(&pb.LeaseGrantRequest{ID: 5, TTL: raftstore.MaxLeaseTTL + 1})},
		{"revoke", "requested lease not found", func() error {
			_, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: -5})
			return err
		}},
		{"put", "requested lease not found", func() error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Lease: -5})
			return err
		}},
		{"put in a transaction", "requested lease not found", func() error {
			put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), Lease: -5}}}
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put}})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			term := b.members[lead].Store.Leader().Term
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if _, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Append(nil, "beside/", i)}); err != nil {
						t.Errorf("a put beside it: %v", err)
					}
				})
			}
			if err := tc.ask(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v", err)
			}
			wg.Wait()
			if now := b.members[lead].Store.Leader(); !now.Self || now.Term != term {
				t.Errorf("the leader is %+v, it was of term %d", now, term)
			}
		})
	}
	keep := must(leases.LeaseKeepAlive(ctx))(t)
	if err := keep.Send(&pb.LeaseKeepAliveRequest{ID: -5}); err != nil {
		t.Fatal(err)
	}
	if r := must(keep.Recv())(t); r.TTL != 0 {
		t.Errorf("a renewal says %v, want TTL 0: there is no such lease", r)
	}
}

// TestLockAndElection uses clientv3's recipes, which stand on leases, transactions and watches.
func TestLockAndElection(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	one, two := must(concurrency.NewSession(b.client(0)))(t), must(concurrency.NewSession(b.client(1)))(t)
	m1, m2 := concurrency.NewMutex(one, "lock"), concurrency.NewMutex(two, "lock")
	if err := m1.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m2.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("a lock that is held: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- m2.Lock(ctx) }()
	if err := one.Close(); err != nil { // its lease ends, and with it the lock
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the lock of a session that ended: %v", err)
	}
	e := concurrency.NewElection(two, "election")
	if err := e.Campaign(ctx, "two"); err != nil {
		t.Fatal(err)
	}
	if r := must(e.Leader(ctx))(t); string(r.Kvs[0].Value) != "two" {
		t.Errorf("elected is %s", r.Kvs[0].Value)
	}
}

// TestLeaderGoes: clients go on when the leader stops, nothing acknowledged is lost, and a member without a leader says so.
func TestLeaderGoes(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	c, ctx := b.client(), t.Context()
	must(c.Put(ctx, "before", "1"))(t)
	l := must(c.Grant(ctx, 60))(t)
	old := b.leader()
	b.stop(old)
	eventually(t, "a put without the old leader", func() bool {
		turn, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := c.Put(turn, "after", "1", clientv3.WithLease(l.ID))
		return err == nil
	})
	if g := must(c.Get(ctx, "before"))(t); len(g.Kvs) != 1 {
		t.Error("an acknowledged put is lost")
	}
	last := b.leader()
	for i := range b.members {
		if i != last {
			b.stop(i)
		}
	}
	alone := b.client(last)
	conn := must(grpc.NewClient(b.peers[last].Etcd, grpc.WithTransportCredentials(insecure.NewCredentials())))(t) // clientv3 would try again
	defer conn.Close()
	eventually(t, "the answer that there is no leader", func() bool {
		_, read := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("before")})
		_, write := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("before")})
		return errors.Is(read, rpctypes.ErrGRPCNoLeader) && errors.Is(write, rpctypes.ErrGRPCNoLeader)
	})
	if g := must(alone.Get(ctx, "before", clientv3.WithSerializable()))(t); len(g.Kvs) != 1 {
		t.Error("a serializable read needs no leader")
	}
	b.start(old)
	eventually(t, "a put after the majority is back", func() bool {
		turn, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := alone.Put(turn, "again", "1")
		return err == nil
	})
}
