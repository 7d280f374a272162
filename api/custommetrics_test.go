package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
)

// told are the values of metrics by "NAMESPACE/KIND/NAME METRIC{SELECTOR}", in thousandths.
type told map[string]int64

func (m told) Names() []string { return []string{"jobs", "requests"} }

func (m told) Of(namespace string, ref autoscalingv2.CrossVersionObjectReference, q object.MetricQuery) (object.MetricValue, bool) {
	v, ok := m[fmt.Sprintf("%s/%s/%s %s{%s}", namespace, ref.Kind, ref.Name, q.Name, q.Selector)]
	return object.MetricValue{At: time.Unix(1000, 0), Window: 45 * time.Second, Milli: v}, ok
}

// TestCustomMetrics asks custom.metrics.k8s.io and external.metrics.k8s.io with their own clients, as an autoscaler of Kubernetes does.
func TestCustomMetrics(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	var broken atomic.Bool
	s := apitest.Start(t, store, func(c *api.Config) {
		c.CustomMetrics = func(context.Context) (api.CustomMetrics, error) {
			if broken.Load() {
				return nil, errors.New("the leader is away")
			}
			return told{"default/Pod/a jobs{}": 1500, "default/Pod/b jobs{}": 2000, "default/Pod/c jobs{}": 9000, "default/Pod/a jobs{queue=mail}": 500,
				"default/Service/web jobs{}": 3500, "default/Deployment/web requests{}": -250, "default/Namespace/default jobs{}": 12500}, nil
		}
	})
	for name, app := range map[string]string{"a": "web", "b": "web", "c": "db", "d": "web"} {
		p := pod(name, "n1")
		p.Labels = map[string]string{"app": app}
		store.Put(p)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("Deployment"), meta.RESTScopeNamespace)
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	custom := custom_metrics.NewForConfig(cfg, mapper, custom_metrics.NewAvailableAPIsGetter(d))
	external, err := external_metrics.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mail := labels.SelectorFromSet(labels.Set{"queue": "mail"})
	all := labels.Everything()
	for what, c := range map[string]struct {
		kind         schema.GroupKind
		name, metric string
		selector     labels.Selector
		want         string
	}{
		"a pod":            {schema.GroupKind{Kind: "Pod"}, "a", "jobs", all, "v1 Pod default/a jobs 1500m"},
		"chosen series":    {schema.GroupKind{Kind: "Pod"}, "a", "jobs", mail, "v1 Pod default/a jobs queue=mail 500m"},
		"a service":        {schema.GroupKind{Kind: "Service"}, "web", "jobs", all, "v1 Service default/web jobs 3500m"},
		"a deployment":     {schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web", "requests", all, "apps/v1 Deployment default/web requests -250m"},
		"another's metric": {schema.GroupKind{Kind: "Service"}, "web", "requests", all, "the server could not find the metric requests for services web"},
	} {
		got := ""
		switch v, err := custom.NamespacedMetrics("default").GetForObject(c.kind, c.name, c.metric, c.selector); {
		case apierrors.IsNotFound(err):
			got = err.Error()
		case err != nil:
			t.Errorf("%s: %v", what, err)
		default:
			o := v.DescribedObject
			got = strings.Join(strings.Fields(fmt.Sprint(o.APIVersion, " ", o.Kind, " ", o.Namespace+"/"+o.Name, " ", v.Metric.Name, " ", strings.Replace(metav1.FormatLabelSelector(v.Metric.Selector), "<none>", "", 1), " ", v.Value.String())), " ")
			if v.Timestamp.Unix() != 1000 || v.WindowSeconds == nil || *v.WindowSeconds != 45 {
				t.Errorf("%s: at %v over %v", what, v.Timestamp, v.WindowSeconds)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	list, err := custom.NamespacedMetrics("default").GetForObjects(schema.GroupKind{Kind: "Pod"}, labels.SelectorFromSet(labels.Set{"app": "web"}), "jobs", all)
	if err != nil || len(list.Items) != 2 || list.Items[0].DescribedObject.Name != "a" || list.Items[1].DescribedObject.Name != "b" {
		t.Errorf("the pods that labels select: %+v, %v", list, err)
	}
	if v, err := custom.RootScopedMetrics().GetForObject(schema.GroupKind{Kind: "Namespace"}, "default", "jobs", all); err != nil || v.Value.String() != "12500m" || v.DescribedObject.Kind != "Namespace" {
		t.Errorf("a namespace: %+v, %v", v, err)
	}
	values, err := external.NamespacedMetrics("default").List("jobs", all)
	if err != nil || len(values.Items) != 3 || values.Items[0].MetricLabels["pod"] != "a" || values.Items[2].Value.String() != "9" || values.Items[0].MetricName != "jobs" {
		t.Errorf("an external metric: %+v, %v", values, err)
	}
	if values, err = external.NamespacedMetrics("default").List("none", all); err != nil || len(values.Items) != 0 {
		t.Errorf("an external metric that nobody has: %+v, %v", values, err)
	}
	metricsDiscovered(t, d)
	for path, want := range map[string]string{
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/ingresses.networking.k8s.io/web/jobs":  "the server could not find the metric jobs for ingresses.networking.k8s.io web",
		"/apis/custom.metrics.k8s.io/v1beta2/pods/a/jobs":                                              "the server could not find the requested resource",
		"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/a/jobs?metricLabelSelector=a%3D,": "found '', expected: identifier",
		"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/jobs/a":                              "the server could not find the requested resource",
	} {
		if err := d.RESTClient().Get().RequestURI(path).Do(t.Context()).Error(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if err := d.RESTClient().Delete().RequestURI("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/a/jobs").Do(t.Context()).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a metric was deleted: %v", err)
	}
	broken.Store(true)
	if _, err := external.NamespacedMetrics("default").List("jobs", all); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("without a leader: %v", err)
	}
}

// metricsDiscovered: each metric is a resource of its group.
func metricsDiscovered(t *testing.T, d *discovery.DiscoveryClient) {
	for group, want := range map[string][]string{
		"custom.metrics.k8s.io/v1beta2":   {"namespaces/jobs", "pods/requests", "deployments.apps/jobs"},
		"external.metrics.k8s.io/v1beta1": {"jobs", "requests"},
	} {
		list, err := d.ServerResourcesForGroupVersion(group)
		if err != nil {
			t.Errorf("%s: %v", group, err)
			continue
		}
		for _, name := range want {
			if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name && slices.Equal(r.Verbs, []string{"get"}) }) {
				t.Errorf("%s has no %s: %v", group, name, list.APIResources)
			}
		}
	}
}
