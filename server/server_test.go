package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"reconcile/internal/loopback"
	"reconcile/object"
	"reconcile/pki"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// running is a server that runs in the test's process.
type running struct {
	*Server
	client *kubernetes.Clientset
	stop   func()
}

func start(t *testing.T, dir, addr, join string, change ...func(*Config)) running {
	t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{
		DataDir: dir, Listen: addr, Advertise: addr, Name: "s-" + strings.NewReplacer(".", "-", ":", "-").Replace(addr), Join: join,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Version: "test",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := Open(ctx, cfg)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	ended := false
	stop := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server stopped with %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		ended = true
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(90 * time.Second):
		t.Fatal("the server is not ready after 90 s")
	}
	admin, err := s.Keys().Identity(pki.AdminSpec())
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(&rest.Config{Host: "https://" + addr, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.Keys().PEM(), CertData: admin.CertPEM, KeyData: admin.KeyPEM}})
	if err != nil {
		t.Fatal(err)
	}
	return running{Server: s, client: c, stop: stop}
}

// TestServerEndsWithItsPort takes the port away from a running server, which must say so and end: one that goes on without it is a
// member that nobody reaches.
func TestServerEndsWithItsPort(t *testing.T) {
	addr := loopback.Address()
	s, err := Open(t.Context(), Config{
		DataDir: t.TempDir(), Listen: addr, Advertise: addr, Name: "s", Version: "test", Log: slog.New(slog.DiscardHandler),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = s.Run(ctx, func() {
		if err := s.mux.Close(); err != nil {
			t.Error(err)
		}
	})
	if err == nil || ctx.Err() != nil {
		t.Errorf("the server ended with %v after %v", err, ctx.Err())
	}
}

// eventually asks until ok or the deadline; why is the last reason.
func eventually(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	why := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var done bool
		if done, why = ok(); done {
			return
		}
	}
	t.Fatalf("%s: not within a minute: %s", what, why)
}

func addNode(t *testing.T, c kubernetes.Interface, name string) {
	t.Helper()
	size := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110")}
	n, err := c.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status = corev1.NodeStatus{Capacity: size, Allocatable: size,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}}
	if _, err := c.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
	}}
}

func bound(t *testing.T, c kubernetes.Interface, app string, want int) {
	t.Helper()
	eventually(t, "pods of "+app+" are bound", func() (bool, string) {
		pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return false, err.Error()
		}
		n := 0
		for _, p := range pods.Items {
			if p.Spec.NodeName != "" {
				n++
			}
		}
		return n == want, ""
	})
}

// TestOneServer starts a server, sees what every cluster begins with, deploys, restarts and finds everything again.
// makeCommit writes the row of a commit as a push does, with two other objects, and returns the last revision of its entry.
func makeCommit(t *testing.T, s running, hash string) uint64 {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns-" + hash}}
	row := &object.Commit{ObjectMeta: metav1.ObjectMeta{Name: hash}, Spec: object.CommitSpec{Source: "cluster", Ref: "refs/heads/main", Hash: hash, Received: metav1.NowMicro()}}
	req := sequencer.Request{Source: "cluster", Commit: hash, Raw: []sequencer.Raw{{Key: "/git/refs/heads/main", Value: []byte(hash)}}}
	for _, o := range []object.Object{ns, row} {
		req.Ops = append(req.Ops, sequencer.Op{Verb: sequencer.Create, Key: object.KeyOf(o), Object: o})
	}
	res, err := s.seq.Submit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res.Rev
}

// entryOf reads from a server which entry a commit became, by name, in the list and in a watch.
func entryOf(t *testing.T, s running, hash string) (e object.CommitEntry) {
	t.Helper()
	const path = "/apis/reconcile.local/v1alpha1/commits"
	get := func(path string, into any) {
		t.Helper()
		b, err := s.client.RESTClient().Get().RequestURI(path).DoRaw(t.Context())
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatalf("%s: %v: %s", path, err, b)
		}
	}
	var one object.Commit
	var all object.CommitList
	var event struct{ Object object.Commit }
	get(path+"/"+hash, &one)
	get(path, &all)
	get(path+"?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D"+hash, &event)
	if one.Status.Entry == nil {
		t.Fatalf("the commit does not tell its entry: %+v", one.Status)
	}
	for i := range all.Items {
		if c := &all.Items[i]; c.Name == hash && (c.Status.Entry == nil || *c.Status.Entry != *one.Status.Entry) {
			t.Errorf("the list tells another entry: %+v", c.Status.Entry)
		}
	}
	if event.Object.Status.Entry == nil || *event.Object.Status.Entry != *one.Status.Entry {
		t.Errorf("the watch tells another entry: %+v", event.Object.Status.Entry)
	}
	return *one.Status.Entry
}

func TestOneServer(t *testing.T) {
	dir, addr := t.TempDir(), loopback.Address()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, addr, "")
	eventually(t, "the preset namespaces are there", func() (bool, string) {
		l, err := s.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		return err == nil && len(l.Items) == 4, ""
	})
	eventually(t, "default/kubernetes lists this server", func() (bool, string) {
		e, err := s.client.CoreV1().Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		return err == nil && len(e.Subsets) == 1 && e.Subsets[0].Addresses[0].IP == host, fmt.Sprint(e)
	})
	addNode(t, s.client, "n1")
	if _, err := s.client.AppsV1().Deployments("default").Create(t.Context(), deployment("web", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bound(t, s.client, "web", 3)
	before, err := s.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rev := makeCommit(t, s, "c1")
	entry := entryOf(t, s, "c1")
	if entry.LastRevision != rev || entry.FirstRevision > rev-2 || entry.RaftIndex == 0 || entry.RaftTerm == 0 {
		t.Errorf("the commit of revision %d became the entry %+v", rev, entry)
	}
	s.stop()

	s = start(t, dir, addr, "")
	if now := entryOf(t, s, "c1"); now != entry {
		t.Errorf("after a restart the commit became the entry %+v, it was %+v", now, entry)
	}
	after, err := s.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Items) != len(before.Items) {
		t.Fatalf("%d pods after the restart, %d before", len(after.Items), len(before.Items))
	}
	for i := range after.Items {
		if after.Items[i].UID != before.Items[i].UID {
			t.Errorf("pod %s has another UID after the restart", after.Items[i].Name)
		}
	}
}

// copyKeys gives a new server the cluster's authority.
func copyKeys(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(to, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "ca.key"} {
		b, err := os.ReadFile(filepath.Join(from, "pki", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "pki", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestThreeServers makes a cluster of three by joining, writes through each, stops the leader, and goes on with the other two.
func TestThreeServers(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	addrs := []string{loopback.Address(), loopback.Address(), loopback.Address()}
	servers := []running{start(t, dirs[0], addrs[0], "")}
	for i := 1; i < 3; i++ {
		copyKeys(t, dirs[0], dirs[i])
		servers = append(servers, start(t, dirs[i], addrs[i], addrs[0]))
	}
	eventually(t, "default/kubernetes lists three servers", func() (bool, string) {
		e, err := servers[2].client.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kubernetes"})
		if err != nil {
			return false, err.Error()
		}
		n := 0
		for _, s := range e.Items {
			n += len(s.Endpoints) * len(s.Ports)
		}
		return n == 3, fmt.Sprint(e.Items)
	})
	addNode(t, servers[0].client, "n1")
	for i, s := range servers {
		name := fmt.Sprintf("web-%d", i)
		if _, err := s.client.AppsV1().Deployments("default").Create(t.Context(), deployment(name, 2), metav1.CreateOptions{}); err != nil {
			t.Fatalf("create through server %d: %v", i, err)
		}
	}
	for i := range servers {
		bound(t, servers[2-i].client, fmt.Sprintf("web-%d", i), 2)
	}
	leader := -1 // a busy machine may leave the cluster without one for a moment
	eventually(t, "a leader", func() (bool, string) {
		leader = slices.IndexFunc(servers, func(s running) bool { return s.store.Leader().Self })
		return leader >= 0, ""
	})
	rev := makeCommit(t, servers[(leader+1)%3], "c1")
	entry := entryOf(t, servers[leader], "c1")
	for i := range servers {
		if err := servers[i].store.WaitRev(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		if have := entryOf(t, servers[i], "c1"); have != entry || have.LastRevision != rev {
			t.Errorf("server %d tells the entry %+v of revision %d, the leader %+v", i, have, rev, entry)
		}
	}
	servers[leader].stop()
	other := servers[(leader+1)%3]
	eventually(t, "a write after the leader stopped", func() (bool, string) {
		_, err := other.client.AppsV1().Deployments("default").Create(t.Context(), deployment("later", 2), metav1.CreateOptions{})
		return err == nil, fmt.Sprint(err)
	})
	bound(t, servers[(leader+2)%3].client, "later", 2)
}

// TestDamagedServerRejoins changes a byte in a stopped server's log: it refuses to start and says what to do. Its folder emptied, it comes
// back under a new ID, gets its vote when it has caught up, and the old ID is gone.
func TestDamagedServerRejoins(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	addrs := []string{loopback.Address(), loopback.Address(), loopback.Address()}
	servers := []running{start(t, dirs[0], addrs[0], "")}
	for i := 1; i < 3; i++ {
		copyKeys(t, dirs[0], dirs[i])
		servers = append(servers, start(t, dirs[i], addrs[i], addrs[0]))
	}
	old := servers[2].store.Identity().ServerID
	servers[2].stop()
	store := filepath.Join(dirs[2], "store")
	segments, err := filepath.Glob(filepath.Join(store, "wal", "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no log: %v", err)
	}
	body, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	body[2000] ^= 4
	if err := os.WriteFile(segments[0], body, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: dirs[2], Listen: addrs[2], Advertise: addrs[2], Name: "s", Version: "test", Log: slog.New(slog.DiscardHandler),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16")}
	for _, join := range []string{"", addrs[0]} {
		cfg.Join = join
		s, err := Open(t.Context(), cfg)
		if err == nil {
			s.Close()
			t.Fatal("a damaged server was opened")
		}
		if !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(err.Error(), segments[0]) || !strings.Contains(err.Error(), "Empty the folder") {
			t.Errorf("the error does not say where and what to do: %v", err)
		}
	}
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	if _, err := servers[0].client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meanwhile"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	again := start(t, dirs[2], addrs[2], addrs[0])
	id := again.store.Identity().ServerID
	if id == old {
		t.Error("it came back under its old ID")
	}
	members, err := servers[0].store.Servers()
	if err != nil {
		t.Fatal(err)
	}
	voter := false
	for _, m := range members {
		voter = voter || (m.ID == id && m.Voter)
		if m.ID == old {
			t.Error("the old ID is still a member")
		}
	}
	if !voter || len(members) != 3 {
		t.Errorf("the members are %v", members)
	}
	if _, err := again.client.CoreV1().Namespaces().Get(t.Context(), "meanwhile", metav1.GetOptions{}); err != nil {
		t.Errorf("what was written meanwhile: %v", err)
	}
}
