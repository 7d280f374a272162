package etcdapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
			short := must(c.Grant(ctx, 1))(t)
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
