package etcdapi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"reconcile/etcdapi"
	"reconcile/pki"
)

// secured serves the API of a bare member a second time, with certificates; the function connects with one.
func secured(t *testing.T, b *bare) (dial func(pki.Spec) *grpc.ClientConn) {
	ca := must(pki.Open(pki.Config{Dir: t.TempDir()}))(t)
	host := "127.0.0.1"
	id := must(ca.Identity(pki.ServerSpec("s", []string{host})))(t)
	m := b.members[0]
	srv := must(etcdapi.New(etcdapi.Config{
		Store: m.Store, Sequencer: m.Sequencer, Members: func() []etcdapi.Member { return nil }, Log: slog.New(slog.DiscardHandler),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{id.Cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()},
	}))(t)
	ln := must(new(net.ListenConfig).Listen(t.Context(), "tcp", host+":0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return func(spec pki.Spec) *grpc.ClientConn {
		cfg := pki.ClientTLS(must(ca.Identity(spec))(t), ca.Pool(), "")
		conn := must(grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(cfg))))(t)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// services are all that the port serves.
var services = []*grpc.ServiceDesc{
	&pb.KV_ServiceDesc, &pb.Watch_ServiceDesc, &pb.Lease_ServiceDesc, &pb.Cluster_ServiceDesc, &pb.Maintenance_ServiceDesc, &pb.Auth_ServiceDesc,
	&healthpb.Health_ServiceDesc,
	{ServiceName: "v3lockpb.Lock", Methods: []grpc.MethodDesc{{MethodName: "Lock"}, {MethodName: "Unlock"}}},
	{ServiceName: "v3electionpb.Election", Methods: []grpc.MethodDesc{{MethodName: "Campaign"}, {MethodName: "Proclaim"}, {MethodName: "Leader"}, {MethodName: "Resign"}},
		Streams: []grpc.StreamDesc{{StreamName: "Observe", ServerStreams: true}}},
}

// TestStrangers: a certificate of the cluster that is of neither group, such as an agent's, may call nothing.
func TestStrangers(t *testing.T) {
	t.Parallel()
	dial := secured(t, newBare(t, 1, nil))
	conn := dial(pki.NodeSpec("n", nil))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	called := 0
	for _, service := range services {
		refused := func(method string, err error) {
			called++
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s/%s says %v", service.ServiceName, method, err)
			}
		}
		for _, m := range service.Methods {
			refused(m.MethodName, conn.Invoke(ctx, "/"+service.ServiceName+"/"+m.MethodName, &emptypb.Empty{}, &emptypb.Empty{}))
		}
		for _, m := range service.Streams {
			stream := must(conn.NewStream(ctx, &m, "/"+service.ServiceName+"/"+m.StreamName))(t)
			err := stream.SendMsg(&emptypb.Empty{})
			if err == nil || errors.Is(err, io.EOF) { // it was refused before: RecvMsg says why
				err = stream.RecvMsg(&emptypb.Empty{})
			}
			refused(m.StreamName, err)
		}
	}
	if called < 40 {
		t.Errorf("only %d methods were called", called)
	}
}

// TestClientsDoNotCompact: the history is that of the cluster's own watches too.
func TestClientsDoNotCompact(t *testing.T) {
	t.Parallel()
	dial := secured(t, newBare(t, 1, nil))
	ctx := t.Context()
	other, admin := dial(pki.Spec{Name: "etcd-client", CommonName: "etcd-client", Groups: []string{etcdapi.GroupClients}}), dial(pki.AdminSpec())
	r := must(pb.NewKVClient(other).Put(ctx, &pb.PutRequest{Key: []byte("k")}))(t)
	compaction := &pb.CompactionRequest{Revision: r.Header.Revision}
	if _, err := pb.NewKVClient(other).Compact(ctx, compaction); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "system:masters") {
		t.Errorf("a compaction by a client says %v", err)
	}
	must(pb.NewKVClient(admin).Compact(ctx, compaction))(t)
	// What a client needs to find the members and to see that they live stays open to it.
	must(pb.NewClusterClient(other).MemberList(ctx, &pb.MemberListRequest{}))(t)
	must(pb.NewMaintenanceClient(other).Status(ctx, &pb.StatusRequest{}))(t)
	must(healthpb.NewHealthClient(other).Check(ctx, &healthpb.HealthCheckRequest{}))(t)
}

// TestClientsAreKeptFromTheCluster: what a client may not read or write it cannot learn of, or change, by a detour.
func TestClientsAreKeptFromTheCluster(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	dial, ctx, all := secured(t, b), t.Context(), b.client()
	client, admin := dial(pki.Spec{Name: "etcd-client", CommonName: "etcd-client", Groups: []string{etcdapi.GroupClients}}), dial(pki.AdminSpec())
	lease := int64(must(all.Grant(ctx, 60))(t).ID)
	for _, key := range []string{"/registry/secrets/default/s", "free"} {
		must(all.Put(ctx, key, "v", clientv3.WithLease(clientv3.LeaseID(lease))))(t)
	}
	m := pb.NewMaintenanceClient(client)
	for what, ask := range map[string]func() error{
		"Hash":       func() error { _, err := m.Hash(ctx, &pb.HashRequest{}); return err },
		"HashKV":     func() error { _, err := m.HashKV(ctx, &pb.HashKVRequest{}); return err },
		"MoveLeader": func() error { _, err := m.MoveLeader(ctx, &pb.MoveLeaderRequest{}); return err },
		"Snapshot": func() error {
			r, err := m.Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = r.Recv()
			}
			return err
		},
		"LeaseRevoke": func() error {
			_, err := pb.NewLeaseClient(client).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: lease})
			return err
		},
		"Lock": func() error {
			return invoke(ctx, client, "v3lockpb.Lock/Lock", msg(1, "/registry/secrets/default", 2, lease)).err
		},
		"Leader": func() error {
			return invoke(ctx, client, "v3electionpb.Election/Leader", msg(1, "/registry/secrets/default")).err
		},
		"Proclaim": func() error {
			return invoke(ctx, client, "v3electionpb.Election/Proclaim", msg(1, string(msg(2, "/registry/secrets/default/s", 3, int64(1))), 2, "x")).err
		},
	} {
		if err := ask(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a client's %s says %v", what, err)
		}
	}
	ttl := must(pb.NewLeaseClient(client).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: lease, Keys: true}))(t)
	if len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "free" {
		t.Errorf("a client is told that the keys %q hang on the lease", ttl.Keys)
	}
	must(pb.NewMaintenanceClient(admin).Hash(ctx, &pb.HashRequest{}))(t)
	must(pb.NewMaintenanceClient(admin).HashKV(ctx, &pb.HashKVRequest{}))(t)
}
