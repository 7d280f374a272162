package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// locksName is what -traffic calls the check of etcd's Lock and Election services with the clients that etcd generates for them.
const locksName = "Locks"

// contenders want the lock, and the election, so many rounds each.
const (
	contenders = 6
	rounds     = 10
)

// runLocks is the check on a new cluster, of which nobody is killed.
func runLocks(o options) (counts string, verdict, err error) {
	dir, err := os.MkdirTemp("", "judge-")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(dir)
	c, err := startCluster(o.member, dir)
	if err != nil {
		return "", nil, err
	}
	defer c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var conns []*grpc.ClientConn
	for _, e := range c.endpoints {
		conn, err := grpc.NewClient(e, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return "", nil, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	verdict = errors.Join(contend(ctx, conns, locked), contend(ctx, conns, elected))
	return fmt.Sprintf("%d contenders, %d rounds of each", contenders, rounds), verdict, nil
}

// critical is what a lock protects: it sees whether two are in it, and whether a token is smaller than one before.
type critical struct {
	mu     sync.Mutex
	inside int
	last   int64
	err    error
}

func (c *critical) enter(token int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside++
	switch {
	case c.inside > 1:
		c.err = fmt.Errorf("%d hold it at once", c.inside)
	case token <= c.last:
		c.err = fmt.Errorf("token %d came after %d", token, c.last)
	}
	c.last = token
}

func (c *critical) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside--
}

// turn takes its turn once, by a connection and with a lease. Every third holder loses its lease instead of giving up what it holds.
type turn func(ctx context.Context, conn *grpc.ClientConn, lease int64, c *critical, lose bool) error

// contend lets contenders take turns by all members.
func contend(ctx context.Context, conns []*grpc.ClientConn, take turn) error {
	var wg sync.WaitGroup
	errs := make([]error, contenders)
	c := &critical{}
	for i := range contenders {
		wg.Go(func() {
			conn := conns[i%len(conns)]
			for n := 0; n < rounds && errs[i] == nil; n++ {
				l, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
				if err == nil {
					err = take(ctx, conn, l.ID, c, n%3 == 2)
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, c.err)...)
}

// token is the revision at which a key was made.
func token(ctx context.Context, conn *grpc.ClientConn, key []byte) (int64, error) {
	r, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: key})
	if err == nil && len(r.Kvs) != 1 {
		err = fmt.Errorf("the key %s of who holds it is not there", key)
	}
	if err != nil {
		return 0, err
	}
	return r.Kvs[0].CreateRevision, nil
}

func revoke(ctx context.Context, conn *grpc.ClientConn, lease int64) error {
	_, err := pb.NewLeaseClient(conn).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: lease})
	return err
}

func locked(ctx context.Context, conn *grpc.ClientConn, lease int64, c *critical, lose bool) error {
	locks := v3lockpb.NewLockClient(conn)
	l, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("lock"), Lease: lease})
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	n, err := token(ctx, conn, l.Key)
	if err != nil {
		return err
	}
	c.enter(n)
	c.leave()
	if lose {
		return revoke(ctx, conn, lease)
	}
	_, err = locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: l.Key})
	return err
}

func elected(ctx context.Context, conn *grpc.ClientConn, lease int64, c *critical, lose bool) error {
	e := v3electionpb.NewElectionClient(conn)
	name, value := []byte("election"), fmt.Appendf(nil, "%x", lease)
	won, err := e.Campaign(ctx, &v3electionpb.CampaignRequest{Name: name, Lease: lease, Value: value})
	if err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	c.enter(won.Leader.Rev)
	err = reign(ctx, e, won, value)
	c.leave()
	switch {
	case err != nil:
		return err
	case lose:
		return revoke(ctx, conn, lease)
	}
	_, err = e.Resign(ctx, &v3electionpb.ResignRequest{Leader: won.Leader})
	return err
}

// reign is what one who is elected does: others see it.
func reign(ctx context.Context, e v3electionpb.ElectionClient, won *v3electionpb.CampaignResponse, value []byte) error {
	name := won.Leader.Name
	if _, err := e.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won.Leader, Value: append(value, '!')}); err != nil {
		return fmt.Errorf("proclaim: %w", err)
	}
	now, err := e.Leader(ctx, &v3electionpb.LeaderRequest{Name: name})
	if err != nil || string(now.Kv.Value) != string(value)+"!" {
		return fmt.Errorf("%s is elected, and %v (%w)", value, now, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the observer
	seen, err := e.Observe(ctx, &v3electionpb.LeaderRequest{Name: name})
	if err != nil {
		return err
	}
	first, err := seen.Recv()
	if err != nil || string(first.Kv.Key) != string(won.Leader.Key) {
		return fmt.Errorf("an observer is told %v (%w) while %s is elected", first, err, won.Leader.Key)
	}
	return nil
}
