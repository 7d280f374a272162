package faulttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// etcd is a client of the member's etcd API, made at the first call. It connects anew by itself.
func (m *Member) etcd() (*clientv3.Client, error) {
	m.dialEtcd.Do(func() {
		back := backoff.DefaultConfig
		back.BaseDelay, back.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
		m.etcdClient, m.etcdError = clientv3.New(clientv3.Config{
			Endpoints: []string{"http://" + net.JoinHostPort(m.address, etcdPort)},
			Logger:    zap.NewNop(),
			DialOptions: []grpc.DialOption{
				grpc.WithConnectParams(grpc.ConnectParams{Backoff: back, MinConnectTimeout: time.Second}),
				grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return m.dial(ctx, "tcp", addr) }),
			},
		})
	})
	return m.etcdClient, m.etcdError
}

// closeClients ends the connections of the test to the member.
func (m *Member) closeClients() {
	m.client.CloseIdleConnections()
	if c, _ := m.etcd(); c != nil {
		_ = c.Close() // its context's error
	}
}

// operateEtcd performs one operation over the member's etcd API.
func (m *Member) operateEtcd(ctx context.Context, in input) output {
	c, err := m.etcd()
	if err != nil {
		return output{Failed: err.Error()}
	}
	keys := in.keys()
	var reads []clientv3.Op
	for _, k := range keys {
		reads = append(reads, clientv3.OpGet(k))
	}
	if !in.writes() {
		res, err := c.Txn(ctx).Then(reads...).Commit()
		if err != nil {
			return output{Failed: err.Error()}
		}
		return output{Value: valueOf(res)}
	}
	is := clientv3.Compare(clientv3.Value(keys[0]), "=", in.Expect)
	if in.Expect == "" {
		is = clientv3.Compare(clientv3.CreateRevision(keys[0]), "=", 0)
	}
	var writes []clientv3.Op
	for _, k := range keys {
		if in.deletes() {
			writes = append(writes, clientv3.OpDelete(k))
		} else {
			writes = append(writes, clientv3.OpPut(k, in.Value))
		}
	}
	res, err := c.Txn(ctx).If(is).Then(writes...).Else(reads...).Commit()
	switch {
	case err == nil && res.Succeeded:
		return output{Rev: uint64(res.Header.Revision)}
	case err == nil:
		return output{Stale: true, Value: valueOf(res)}
	case certainEtcd(err):
		return output{Failed: err.Error()}
	}
	return output{Unknown: err.Error()}
}

// valueOf is what a transaction read. Keys of a pair are only ever written together: if they differ, the value is one that nobody wrote.
func valueOf(res *clientv3.TxnResponse) string {
	values := make([]string, len(res.Responses))
	for i, r := range res.Responses {
		if kvs := r.GetResponseRange().Kvs; len(kvs) > 0 {
			values[i] = string(kvs[0].Value)
		}
	}
	for _, v := range values {
		if v != values[0] {
			return fmt.Sprintf("torn: %q", values)
		}
	}
	return values[0]
}

// certainEtcd tells whether an error of a write says that nothing was changed: the answers of a server that did not take it.
func certainEtcd(err error) bool {
	return errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrLeaseNotFound)
}
