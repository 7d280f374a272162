package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/internal/loopback"
	"reconcile/object"
	"reconcile/pki"
)

// etcdClient is etcd's own client with a certificate.
func etcdClient(t *testing.T, s *Server, spec pki.Spec) *clientv3.Client {
	t.Helper()
	id, err := s.Keys().Identity(spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.EtcdURL()}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.Keys().Pool(), Certificates: []tls.Certificate{id.Cert}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// startEtcd runs a server with etcd's API until the test ends.
func startEtcd(t *testing.T, writes bool) (s *Server, addr, etcd string) {
	t.Helper()
	addr, etcd = loopback.Address(), loopback.Address()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, Config{
		DataDir: t.TempDir(), Listen: addr, Advertise: addr, Name: "one", EtcdListen: etcd, EtcdRegistryWrites: writes,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return s, addr, etcd
}

// TestEtcdRegistryWrites: an object that is written through etcd's API is one for Kubernetes' API too, with its revision, and wakes controllers.
func TestEtcdRegistryWrites(t *testing.T) {
	s, _, _ := startEtcd(t, true)
	c, ctx := etcdClient(t, s, pki.AdminSpec()), t.Context()
	deployment := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		},
	}
	one := int32(1)
	deployment.Spec.Replicas = &one
	admission.Default(deployment) // as Kubernetes stores it
	body, err := object.Encode(deployment)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "/registry/deployments/default/other", string(body)); err == nil || !strings.Contains(err.Error(), "must be that object") {
		t.Errorf("an object under another's key: %v", err)
	}
	if _, err := c.Put(ctx, "/registry/deployments/default/web", "no object"); err == nil {
		t.Error("a value that is no object is taken")
	}
	r, err := c.Put(ctx, "/registry/deployments/default/web", string(body))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		g, err := c.Get(ctx, "/registry/replicasets/default/", clientv3.WithPrefix())
		if err == nil && g.Count == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are %d ReplicaSets, %v", g.Count, err)
		}
	}
	now := cluster.NewView(s.store.View()) // a controller may write it again meanwhile
	live, ok := now.Get(object.KeyOf(deployment))
	if !ok || live.GetResourceVersion() == "" {
		t.Fatal("the object is not there")
	}
	if g, err := c.Get(ctx, "/registry/deployments/default/web", clientv3.WithRev(int64(now.Rev()))); err != nil || live.GetResourceVersion() != strconv.FormatInt(g.Kvs[0].ModRevision, 10) || g.Kvs[0].ModRevision < r.Header.Revision {
		t.Errorf("the object's resourceVersion is %s: %v", live.GetResourceVersion(), err)
	}
}

// TestEtcd: rights follow from the certificate's group, and members have names and URLs.
func TestEtcd(t *testing.T) {
	s, addr, etcd := startEtcd(t, false)
	ctx := t.Context()
	admin, plain, node := etcdClient(t, s, pki.AdminSpec()), etcdClient(t, s, EtcdClientSpec()), etcdClient(t, s, pki.NodeSpec("n", nil))
	if r, err := admin.Get(ctx, "/registry/namespaces/", clientv3.WithPrefix()); err != nil || r.Count == 0 {
		t.Errorf("the administrator reads %v, %v", r, err)
	}
	for what, op := range map[string]clientv3.Op{
		"objects are read":           clientv3.OpGet("/registry/namespaces/default"),
		"everything is read":         clientv3.OpGet("", clientv3.WithPrefix()),
		"an object is compared with": clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version("/registry/namespaces/default"), "=", 1)}, nil, nil),
		"an object is written":       clientv3.OpPut("/registry/namespaces/x", ""),
	} {
		if _, err := plain.Do(ctx, op); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s with a plain client's certificate: %v", what, err)
		}
	}
	if r := <-plain.Watch(ctx, "/registry/", clientv3.WithPrefix()); r.Err() == nil {
		t.Error("objects are watched with a plain client's certificate")
	}
	if _, err := plain.Put(ctx, "mine", "1"); err != nil {
		t.Error(err)
	}
	if _, err := node.Get(ctx, "mine"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("an agent's certificate: %v", err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		m, err := admin.MemberList(ctx)
		if err == nil && len(m.Members) == 1 && m.Members[0].Name == "one" && m.Members[0].ClientURLs[0] == "https://"+etcd && m.Members[0].PeerURLs[0] == "https://"+addr {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the members are %v, %v", m, err)
		}
	}
}
