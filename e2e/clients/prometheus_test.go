package clients

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestPrometheus finds the same pods in each of the roles that Prometheus' discovery has.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	ns, ctx, c := namespace(t), t.Context(), clientset(t)
	_, err := c.AppsV1().Deployments(ns).Create(ctx, deployment("web", 1), metav1.CreateOptions{})
	must(t, err)
	_, err = c.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}}}, metav1.CreateOptions{})
	must(t, err)
	prefix := networkingv1.PathTypePrefix
	_, err = c.NetworkingV1().Ingresses(ns).Create(ctx, &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: "web.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix,
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Name: "http"}}}}}}}}}}}, metav1.CreateOptions{})
	must(t, err)
	rolledOut(t, ns, "web", 1)
	pod := func(l model.LabelSet) bool {
		at, err := netip.ParseAddrPort(string(l["__address__"]))
		return err == nil && at.Port() == 8080 && at.Addr().Is4() && strings.HasPrefix(string(l["__meta_kubernetes_pod_name"]), "web-")
	}
	for role, is := range map[kubernetes.Role]func(model.LabelSet) bool{
		kubernetes.RoleNode: func(l model.LabelSet) bool {
			return l["__meta_kubernetes_node_name"] == "n1" && l["__meta_kubernetes_node_label_kubernetes_io_hostname"] == "n1"
		},
		kubernetes.RolePod:           pod,
		kubernetes.RoleEndpoint:      pod,
		kubernetes.RoleEndpointSlice: pod,
		kubernetes.RoleService: func(l model.LabelSet) bool {
			return string(l["__address__"]) == "web."+ns+".svc:80" && l["__meta_kubernetes_service_label_app"] == "web"
		},
		kubernetes.RoleIngress: func(l model.LabelSet) bool { return l["__address__"] == "web.example.com" },
	} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			finds(t, ns, role, is)
		})
	}
}

// finds runs a discovery until it tells a target.
func finds(t *testing.T, ns string, role kubernetes.Role, is func(model.LabelSet) bool) {
	cfg := kubernetes.DefaultSDConfig
	cfg.Role, cfg.KubeConfig, cfg.NamespaceDiscovery = role, kubeconfig, kubernetes.NamespaceDiscovery{Names: []string{ns}}
	registry := prometheus.NewRegistry()
	metrics := cfg.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	must(t, metrics.Register())
	defer metrics.Unregister()
	d, err := cfg.NewDiscoverer(discovery.DiscovererOptions{Logger: slog.New(slog.DiscardHandler), Metrics: metrics})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	groups := make(chan []*targetgroup.Group)
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx, groups) })
	defer wg.Wait()
	defer cancel()
	var told []model.LabelSet
	for limit := time.After(90 * time.Second); ; {
		select {
		case all := <-groups:
			for _, g := range all {
				for _, target := range g.Targets {
					// Prometheus puts a group's labels and a target's together.
					l := g.Labels.Merge(target)
					if is(l) {
						return
					}
					told = append(told, l)
				}
			}
		case <-limit:
			t.Fatalf("the target was not found within 90 s; told were %v", told)
		}
	}
}
