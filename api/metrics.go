package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// metrics are told under the names that Kubernetes' API server uses, so that its dashboards and rules work. A nil *metrics counts nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	long     *prometheus.GaugeVec
	slow     *prometheus.CounterVec
}

// requestLabels name what a request was for. Names of objects and users are not among them: there are too many.
var requestLabels = []string{"verb", "group", "version", "resource", "subresource", "scope"}

func newMetrics(reg prometheus.Registerer, f *flow) (*metrics, error) {
	if reg == nil {
		return nil, nil
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total",
			Help: "Requests to the API, by verb, resource and HTTP code."}, append(requestLabels[:len(requestLabels):len(requestLabels)], "code")),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_request_duration_seconds",
			Help: "How long requests took that end by themselves (no watches, no streams).", Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}}, requestLabels),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests",
			Help: "Requests that are served now, by whether they change anything."}, []string{"request_kind"}),
		long: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests",
			Help: "Watches and streams that are open now."}, requestLabels),
		slow: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_terminated_watchers_total",
			Help: "Watches that were ended because their clients did not read, by group and resource."}, []string{"group", "resource"}),
	}
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "apiserver_current_inqueue_requests", Help: "Requests that wait for their turn."},
		func() float64 { return float64(f.queued()) })
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, m.long, m.slow, queued} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// recorder remembers the code of an answer.
type recorder struct {
	http.ResponseWriter
	code int
	// pace is nil for what is open for as long as it is wanted: that does not only wait for its client.
	pace *pace
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	if w.pace != nil {
		return w.pace.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach what is below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// labels name a target. What is not served is counted without a resource.
func (t target) labels(r *http.Request) prometheus.Labels {
	l := prometheus.Labels{"verb": metricVerb(r, t), "group": "", "version": "", "resource": "", "subresource": "", "scope": ""}
	if !t.known && t.action == nil {
		return l
	}
	l["group"], l["version"], l["resource"], l["subresource"] = t.gv.Group, t.gv.Version, t.resource, t.subresource
	if !knownSubresource(t) {
		l["subresource"] = ""
	}
	switch {
	case t.name != "":
		l["scope"] = "resource"
	case t.namespace != "":
		l["scope"] = "namespace"
	default:
		l["scope"] = "cluster"
	}
	return l
}

// knownSubresource keeps what clients make up out of the labels.
func knownSubresource(t target) bool {
	if t.subresource == "status" || t.subresource == "scale" {
		return true
	}
	_, ok := t.kind.Subresource(t.subresource)
	return ok
}

func metricVerb(r *http.Request, t target) string {
	switch verb := t.verb(r.Method); {
	case t.subresource == "exec" || t.subresource == "attach" || t.subresource == "portforward" || t.subresource == "proxy":
		return "CONNECT"
	case verb == "create":
		return "POST"
	case verb == "update":
		return "PUT"
	case verb == "patch" && isApply(r):
		return "APPLY"
	case verb == "get" || verb == "list" || verb == "watch" || verb == "patch" || verb == "delete" || verb == "deletecollection":
		return strings.ToUpper(verb)
	}
	return "other"
}

// measure serves a request for a resource and counts it.
func (s *Server) measure(w http.ResponseWriter, r *http.Request, t target, serve func(http.ResponseWriter) error) {
	rec := &recorder{ResponseWriter: w}
	long, began := longRunning(r, t), s.cfg.Now()
	done := func() {}
	if s.metrics != nil {
		done = s.metrics.begin(r, t, long)
	}
	defer func() {
		done()
		if s.metrics != nil {
			s.metrics.end(r, t, rec.code, long, s.cfg.Now().Sub(began))
		}
	}()
	if !long {
		rec.pace = newPace(w, s.cfg.WriteTimeout)
	}
	if err := serve(rec); err != nil {
		s.writeError(rec, r, err)
	}
}

func (m *metrics) begin(r *http.Request, t target, long bool) func() {
	g := m.inFlight.WithLabelValues("mutating")
	switch {
	case long:
		g = m.long.With(t.labels(r))
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		g = m.inFlight.WithLabelValues("readOnly")
	}
	g.Inc()
	return g.Dec
}

// cutOff counts a watch that was ended because its client does not read.
func (m *metrics) cutOff(k schema.GroupResource) {
	if m != nil {
		m.slow.WithLabelValues(k.Group, k.Resource).Inc()
	}
}

func (m *metrics) end(r *http.Request, t target, code int, long bool, took time.Duration) {
	l := t.labels(r)
	if !long {
		m.seconds.With(l).Observe(took.Seconds())
	}
	if code == 0 {
		code = http.StatusOK
	}
	l["code"] = strconv.Itoa(code)
	m.requests.With(l).Inc()
}
