package proxy_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
	"reconcile/proxy"
	"reconcile/proxy/model"
	"reconcile/proxy/proxytest"
)

// source hands out receivers as they follow; a test feeds them.
type source struct {
	mu        sync.Mutex
	receivers map[string]object.Receiver
}

func (s *source) Follow(ctx context.Context, sel object.Selection, r object.Receiver) error {
	s.mu.Lock()
	s.receivers[sel.Resource] = r
	s.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// world is a running proxy on a fake kernel.
type world struct {
	t      *testing.T
	src    *source
	kernel *proxytest.Fake
	p      *proxy.Proxy
	report []proxy.Status
}

func start(t *testing.T, kernel *proxytest.Fake) *world {
	t.Helper()
	w := &world{t: t, src: &source{receivers: map[string]object.Receiver{}}, kernel: kernel}
	facts := proxytest.Facts()
	p, err := proxy.New(proxy.Config{
		NodeName: "n1", ClusterCIDR: facts.ClusterCIDR, ServiceCIDR: facts.ServiceCIDR, DNSAddr: facts.DNSAddr,
		Source: w.src, Kernel: kernel, Report: func(s proxy.Status) { w.report = append(w.report, s) },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.p = p
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	synctest.Wait()
	return w
}

func (w *world) calls(want ...string) {
	w.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	if got := w.kernel.Calls(); !slices.Equal(got, want) {
		w.t.Errorf("the kernel was called %v, want %v", got, want)
	}
}

func (w *world) has(want string) {
	w.t.Helper()
	state, err := w.kernel.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.kernel.Calls()
	if got := strings.Join(strings.Fields(model.Render(state)), " "); got != want {
		w.t.Errorf("the kernel has\n%s\nwant\n%s", got, want)
	}
}

func node() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: proxytest.Node.String()}}}}
}

func web() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.4.7", Ports: []corev1.ServicePort{{Port: 80}}}}
}

func slice(addrs ...string) *discoveryv1.EndpointSlice {
	name, port := "", int32(8080)
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func (w *world) replaceAll() {
	w.src.receivers["services"].Replace([]object.Object{web()})
	w.src.receivers["endpointslices"].Replace([]object.Object{slice("10.244.1.2")})
	w.src.receivers["nodes"].Replace([]object.Object{node()})
}

// stray is in the kernel when the proxy starts, and wanted by nobody.
func strayKernel(t *testing.T) *proxytest.Fake {
	t.Helper()
	k := proxytest.NewFake()
	f := model.Frontend{Addr: netip.MustParseAddr("10.96.9.9"), Proto: model.TCP, Port: 80}
	if err := k.Apply(t.Context(), model.Delta{{Verb: model.AddService, Frontend: f}}); err != nil {
		t.Fatal(err)
	}
	k.Calls()
	return k
}

// TestNothingBeforeAllIsKnown: what is in the kernel stays until services, slices and the node have all been seen.
func TestNothingBeforeAllIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, strayKernel(t))
		w.calls()
		w.src.receivers["services"].Replace([]object.Object{web()})
		w.calls()
		w.src.receivers["nodes"].Replace([]object.Object{node()})
		w.calls()
		w.has("10.96.9.9:80/TCP masquerade=off-cluster no backends: reject")
		w.src.receivers["endpointslices"].Replace([]object.Object{slice("10.244.1.2")})
		w.calls("setup", "list", "apply")
		w.has("10.96.4.7:80/TCP masquerade=off-cluster -> 10.244.1.2:8080")
		if s := w.p.Status(); !s.Synced || s.Services != 1 || s.Backends != 1 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
	})
}

// TestChangesAreDifferences: one endpoint's change reads nothing back, and no change calls nothing.
func TestChangesAreDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, proxytest.NewFake())
		w.replaceAll()
		w.calls("setup", "list", "apply")
		w.src.receivers["endpointslices"].Upsert(slice("10.244.1.2", "10.244.1.3"))
		w.calls("apply")
		w.has("10.96.4.7:80/TCP masquerade=off-cluster -> 10.244.1.2:8080 -> 10.244.1.3:8080")
		w.src.receivers["endpointslices"].Upsert(slice("10.244.1.2", "10.244.1.3"))
		w.calls()
		// A new list with the same content, as after a broken watch, changes nothing either.
		w.replaceAll()
		w.src.receivers["endpointslices"].Replace([]object.Object{slice("10.244.1.2", "10.244.1.3")})
		w.calls()
		w.src.receivers["services"].Remove(object.Key{Resource: "services", Namespace: "default", Name: "web"})
		w.calls("apply")
		w.has("")
	})
}

// TestNodeChangesFacts: new addresses of the node are set up again.
func TestNodeChangesFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, proxytest.NewFake())
		w.replaceAll()
		w.calls("setup", "list", "apply")
		n := node()
		n.Spec.PodCIDR = "10.244.7.0/24"
		w.src.receivers["nodes"].Upsert(n)
		w.calls("setup")
		w.src.receivers["nodes"].Upsert(n)
		w.calls()
	})
}

// TestFailureIsRepairedFromWhatTheKernelHas: a half-done round is followed by one that looks.
func TestFailureIsRepairedFromWhatTheKernelHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, proxytest.NewFake())
		w.replaceAll()
		w.calls("setup", "list", "apply")
		w.kernel.Fail(errors.New("the kernel is out of memory"))
		w.src.receivers["endpointslices"].Upsert(slice("10.244.1.7", "10.244.1.8"))
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if s := w.p.Status(); s.Err == nil {
			t.Error("the status has no error")
		}
		w.kernel.Fail(nil)
		w.kernel.Calls()
		w.calls("setup", "list", "apply")
		w.has("10.96.4.7:80/TCP masquerade=off-cluster -> 10.244.1.7:8080 -> 10.244.1.8:8080")
		if s := w.p.Status(); s.Err != nil || s.Backends != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestResyncUndoesStrangers: what somebody else changed in the kernel is put right.
func TestResyncUndoesStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, proxytest.NewFake())
		w.replaceAll()
		w.calls("setup", "list", "apply")
		f := model.Frontend{Addr: netip.MustParseAddr("10.96.4.7"), Proto: model.TCP, Port: 80}
		if err := w.kernel.Apply(t.Context(), model.Delta{{Verb: model.RemoveService, Frontend: f}}); err != nil {
			t.Fatal(err)
		}
		w.kernel.Calls()
		time.Sleep(6 * time.Minute)
		w.has("10.96.4.7:80/TCP masquerade=off-cluster -> 10.244.1.2:8080")
	})
}
