package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custommetricsv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetricsv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"reconcile/object"
)

// CustomMetrics is what pods told of themselves last, as far as some autoscaler goes by it. It does not change.
type CustomMetrics interface {
	// Names are those of the metrics that there is a value of, in order.
	Names() []string
	// Of is the sum of a metric over the pods of a namespace that an object stands for, a Pod for itself; false if none of them has it.
	Of(namespace string, ref autoscalingv2.CrossVersionObjectReference, q object.MetricQuery) (object.MetricValue, bool)
}

// describable are the objects that stand for pods: the resources of custom.metrics.k8s.io.
var describable = []schema.GroupResource{{Resource: "pods"}, {Resource: "services"}, {Resource: "replicationcontrollers"}, {Group: "apps", Resource: "deployments"},
	{Group: "apps", Resource: "replicasets"}, {Group: "apps", Resource: "statefulsets"}, {Group: "apps", Resource: "daemonsets"}, {Group: "batch", Resource: "jobs"}}

// customMetrics is what both groups answer from: 503 where the leader cannot be asked.
func (s *Server) customMetrics(ctx context.Context) (CustomMetrics, error) {
	fail := apierrors.NewServiceUnavailable("the server is currently unable to handle the request")
	if s.cfg.CustomMetrics == nil {
		return nil, fail
	}
	m, err := s.cfg.CustomMetrics(ctx)
	if err != nil {
		s.cfg.Log.Debug("cannot learn what pods tell of themselves", "err", err)
		return nil, fail
	}
	return m, nil
}

// metricsDiscovery is the list of a group's resources, which are the metrics that there are; false for other paths.
func (s *Server) metricsDiscovery(ctx context.Context, path string) (doc []byte, is bool, err error) {
	custom := path == gvPath(custommetricsv1beta2.SchemeGroupVersion)
	if !custom && path != gvPath(externalmetricsv1beta1.SchemeGroupVersion) {
		return nil, false, nil
	}
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, APIResources: []metav1.APIResource{}}
	m, err := s.customMetrics(ctx)
	if err != nil {
		return nil, true, err
	}
	add := func(name, kind string, namespaced bool) {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: name, Namespaced: namespaced, Kind: kind, Verbs: []string{"get"}})
	}
	for _, name := range m.Names() {
		if !custom {
			add(name, "ExternalMetricValueList", true)
			continue
		}
		add("namespaces/"+name, "MetricValueList", false)
		for _, gr := range describable {
			add(gr.String()+"/"+name, "MetricValueList", true)
		}
	}
	list.GroupVersion = strings.TrimPrefix(path, "/apis/")
	slices.SortFunc(list.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	doc, err = json.Marshal(list)
	return doc, true, err
}

// metricQuery reads which series of a metric count.
func metricQuery(name, selector string) (object.MetricQuery, error) {
	sel, err := labels.Parse(selector)
	if err != nil {
		return object.MetricQuery{}, badRequest("%v", err)
	}
	return object.MetricQuery{Name: name, Selector: sel.String()}, nil
}

// objectMetrics serves custom.metrics.k8s.io: NAMESPACE/RESOURCE/NAME/METRIC, of one object or, by the name *, of those that labels select; and
// NAMESPACE/metrics/METRIC, of the namespace.
func (s *Server) objectMetrics(w http.ResponseWriter, r *http.Request, t target) error {
	ofNamespace := t.resource == "metrics" && t.subresource == ""
	metric := t.subresource
	if ofNamespace {
		metric = t.name
	}
	if t.namespace == "" || t.name == "" || metric == "" || strings.Contains(metric, "/") {
		return notServed()
	}
	q, err := metricQuery(metric, t.query.Get("metricLabelSelector"))
	if err != nil {
		return err
	}
	m, err := s.customMetrics(r.Context())
	if err != nil {
		return err
	}
	refs := []autoscalingv2.CrossVersionObjectReference{{APIVersion: "v1", Kind: "Namespace", Name: t.namespace}}
	if !ofNamespace {
		if refs, err = s.described(t); err != nil {
			return err
		}
	}
	list := &custommetricsv1beta2.MetricValueList{TypeMeta: metav1.TypeMeta{APIVersion: custommetricsv1beta2.SchemeGroupVersion.String(), Kind: "MetricValueList"}, Items: []custommetricsv1beta2.MetricValue{}}
	for _, ref := range refs {
		v, ok := m.Of(t.namespace, ref, q)
		if !ok {
			continue
		}
		of := corev1.ObjectReference{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, Namespace: t.namespace}
		if ofNamespace {
			of.Namespace = ""
		}
		x := custommetricsv1beta2.MetricValue{DescribedObject: of, Metric: custommetricsv1beta2.MetricIdentifier{Name: q.Name}, Timestamp: metav1.NewTime(v.At), WindowSeconds: seconds(v.Window), Value: *kresource.NewMilliQuantity(v.Milli, kresource.DecimalSI)}
		if q.Selector != "" {
			if x.Metric.Selector, err = metav1.ParseToLabelSelector(q.Selector); err != nil {
				return badRequest("%v", err)
			}
		}
		list.Items = append(list.Items, x)
	}
	if len(list.Items) == 0 {
		return noMetric(q.Name, t)
	}
	s.sendPlain(w, r, http.StatusOK, list)
	return nil
}

// noMetric says what Kubernetes' adapters say.
func noMetric(metric string, t target) error {
	what := t.resource
	if t.name != "*" && t.resource != "metrics" {
		what += " " + t.name
	}
	return bare(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the metric "+metric+" for "+what)
}

// described are the objects that a path of custom.metrics.k8s.io names.
func (s *Server) described(t target) ([]autoscalingv2.CrossVersionObjectReference, error) {
	gr := schema.ParseGroupResource(t.resource)
	i := slices.IndexFunc(object.Kinds(), func(k object.Kind) bool { return k.Resource == gr.Resource && k.GVK.Group == gr.Group })
	if i < 0 || !slices.Contains(describable, gr) {
		return nil, noMetric(t.subresource, t)
	}
	gvk := object.Kinds()[i].GVK
	ref := autoscalingv2.CrossVersionObjectReference{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: t.name}
	if t.name != "*" {
		return []autoscalingv2.CrossVersionObjectReference{ref}, nil
	}
	sel, err := labels.Parse(t.query.Get("labelSelector"))
	if err != nil {
		return nil, badRequest("%v", err)
	}
	var refs []autoscalingv2.CrossVersionObjectReference
	for o := range s.cfg.Store.View().List(gr.Resource, t.namespace) {
		if sel.Matches(labels.Set(o.GetLabels())) {
			ref.Name = o.GetName()
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// externalMetrics serves external.metrics.k8s.io: NAMESPACE/METRIC, a value of each pod of the namespace that has it, whosever it is.
func (s *Server) externalMetrics(w http.ResponseWriter, r *http.Request, t target) error {
	if t.namespace == "" || t.name != "" {
		return notServed()
	}
	q, err := metricQuery(t.resource, t.query.Get("labelSelector"))
	if err != nil {
		return err
	}
	m, err := s.customMetrics(r.Context())
	if err != nil {
		return err
	}
	list := &externalmetricsv1beta1.ExternalMetricValueList{TypeMeta: metav1.TypeMeta{APIVersion: externalmetricsv1beta1.SchemeGroupVersion.String(), Kind: "ExternalMetricValueList"}, Items: []externalmetricsv1beta1.ExternalMetricValue{}}
	for o := range s.cfg.Store.View().List("pods", t.namespace) {
		if v, ok := m.Of(t.namespace, autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Pod", Name: o.GetName()}, q); ok {
			list.Items = append(list.Items, externalmetricsv1beta1.ExternalMetricValue{MetricName: q.Name, MetricLabels: map[string]string{"pod": o.GetName()},
				Timestamp: metav1.NewTime(v.At), WindowSeconds: seconds(v.Window), Value: *kresource.NewMilliQuantity(v.Milli, kresource.DecimalSI)})
		}
	}
	s.sendPlain(w, r, http.StatusOK, list)
	return nil
}

// seconds is a window as it is told; a gauge has none.
func seconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := int64(d.Round(time.Second) / time.Second)
	return &n
}
