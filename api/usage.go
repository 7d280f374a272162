package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"reconcile/object"
)

// Usage is what pods and nodes were measured to use; server/usage knows. It does not change.
type Usage interface {
	// Usage is that of a pod's containers; false if it was not measured.
	Usage(pod object.Key) (object.Usage, bool)
	// Node is that of a machine, as one container without a name.
	Node(name string) (object.Usage, bool)
}

// measurements is what metrics.k8s.io answers from: 503 where nobody measures, or the leader cannot be asked.
func (s *Server) measurements(ctx context.Context, t target) (Usage, error) {
	fail := apierrors.NewServiceUnavailable("the server is currently unable to handle the request (get " + t.groupResource().String() + ")")
	if s.cfg.Usage == nil {
		return nil, fail
	}
	u, err := s.cfg.Usage(ctx)
	if err != nil {
		s.cfg.Log.Debug("cannot learn what pods use", "err", err)
		return nil, fail
	}
	return u, nil
}

// measured is what a request for metrics of a resource of v1 needs: its options, with the selectors of that resource, the measurements, and the time.
func (s *Server) measured(r *http.Request, t target, resource string) (opts listOptions, u Usage, now metav1.Time, err error) {
	of := t
	of.kind, _ = object.KindOfGVR(corev1.SchemeGroupVersion.WithResource(resource))
	if opts, err = parseListOptions(of); err != nil {
		return opts, nil, now, err
	}
	u, err = s.measurements(r.Context(), t)
	return opts, u, metav1.NewTime(s.cfg.Now().Truncate(time.Second)), err
}

// podUsage serves pods of metrics.k8s.io: those of the cluster's that were measured.
func (s *Server) podUsage(w http.ResponseWriter, r *http.Request, t target) error {
	opts, u, now, err := s.measured(r, t, "pods")
	if err != nil {
		return err
	}
	measured := func(o object.Object) (m metricsv1beta1.PodMetrics, ok bool) {
		used, ok := u.Usage(object.KeyOf(o))
		if !ok {
			return m, false
		}
		m.TypeMeta = metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "PodMetrics"}
		m.ObjectMeta = metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), CreationTimestamp: now}
		m.Timestamp, m.Window = metav1.NewTime(used.At), metav1.Duration{Duration: used.Window}
		for _, c := range slices.Sorted(maps.Keys(used.Containers)) {
			m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: c, Usage: used.Containers[c]})
		}
		return m, true
	}
	view := s.cfg.Store.View()
	if t.name != "" {
		if o, ok := view.Get(object.Key{Resource: "pods", Namespace: t.namespace, Name: t.name}); ok {
			if m, ok := measured(o); ok {
				s.sendPlain(w, r, http.StatusOK, &m)
				return nil
			}
		}
		return apierrors.NewNotFound(metricsv1beta1.Resource("podmetrics"), t.namespace+"/"+t.name)
	}
	list := &metricsv1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "PodMetricsList"}, Items: []metricsv1beta1.PodMetrics{}}
	for o := range view.List("pods", t.namespace) {
		if !opts.sel.matches(o) {
			continue
		}
		if m, ok := measured(o); ok {
			list.Items = append(list.Items, m)
		}
	}
	s.sendPlain(w, r, http.StatusOK, list)
	return nil
}

// nodeUsage serves nodes of metrics.k8s.io.
func (s *Server) nodeUsage(w http.ResponseWriter, r *http.Request, t target) error {
	opts, u, now, err := s.measured(r, t, "nodes")
	if err != nil {
		return err
	}
	list := &metricsv1beta1.NodeMetricsList{TypeMeta: metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "NodeMetricsList"}, Items: []metricsv1beta1.NodeMetrics{}}
	for o := range s.cfg.Store.View().List("nodes", "") {
		used, ok := u.Node(o.GetName())
		if !ok || !opts.sel.matches(o) || cmp.Or(t.name, o.GetName()) != o.GetName() {
			continue
		}
		m := metricsv1beta1.NodeMetrics{TypeMeta: metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "NodeMetrics"},
			ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Labels: o.GetLabels(), CreationTimestamp: now},
			Timestamp:  metav1.NewTime(used.At), Window: metav1.Duration{Duration: used.Window}, Usage: used.Containers[""]}
		if t.name != "" {
			s.sendPlain(w, r, http.StatusOK, &m)
			return nil
		}
		list.Items = append(list.Items, m)
	}
	if t.name != "" {
		return apierrors.NewNotFound(metricsv1beta1.Resource("nodemetrics"), t.name)
	}
	s.sendPlain(w, r, http.StatusOK, list)
	return nil
}
