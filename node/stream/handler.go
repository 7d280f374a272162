package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"reconcile/object"
)

// Handler serves a kubelet's paths:
//
//	GET  /healthz
//	GET  /metrics/resource
//	GET  /stats/summary
//	GET  /stats/counters                          object.NodeCounters
//	POST /metrics/pods                            timeout; object.PodQuery as a JSON list; answers one of object.PodSamples, in time
//	GET  /containerLogs/NAMESPACE/POD/CONTAINER   follow previous timestamps tailLines sinceSeconds sinceTime limitBytes
//	GET, POST /exec/NAMESPACE/POD/CONTAINER       command (repeated) stdin|input stdout|output stderr|error tty
//	GET, POST /attach/NAMESPACE/POD/CONTAINER     stdin|input stdout|output stderr|error tty
//	GET, POST /portForward/NAMESPACE/POD          ports are named by each stream
func Handler(b Backend, log *slog.Logger) http.Handler {
	return newHandler(b, log, creationTimeout)
}

func newHandler(b Backend, log *slog.Logger, creation time.Duration) http.Handler {
	h := handler{b: b, log: log, creation: creation}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /metrics/resource", h.metrics)
	mux.HandleFunc("GET /stats/summary", h.summary)
	mux.HandleFunc("GET /stats/counters", h.counters)
	mux.HandleFunc("POST /metrics/pods", h.podMetrics)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", h.logs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", h.exec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", h.attach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", h.portForward)
	return mux
}

type handler struct {
	b   Backend
	log *slog.Logger
	// creation is for how long the streams of a session may take to be opened.
	creation time.Duration
}

func target(r *http.Request) (namespace, pod, container string) {
	return r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
}

// fail answers with the status code of an error.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, ErrNotRunning):
		code = http.StatusBadRequest
	}
	http.Error(w, err.Error(), code)
}

func (h handler) logs(w http.ResponseWriter, r *http.Request) {
	o, err := logOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ns, pod, ctr := target(r)
	fw := &flushWriter{w: w}
	err = h.b.Logs(r.Context(), ns, pod, ctr, o, fw)
	if err != nil && !fw.began {
		fail(w, err)
		return
	}
	if err != nil && r.Context().Err() == nil {
		h.log.Debug("log stream ended early", "namespace", ns, "pod", pod, "container", ctr, "err", err)
	}
	if !fw.began {
		fw.header()
	}
}

func (h handler) metrics(w http.ResponseWriter, r *http.Request) {
	b, err := h.b.Metrics(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b)
}

func (h handler) counters(w http.ResponseWriter, r *http.Request) {
	c, err := h.b.Counters(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(c)
}

func (h handler) summary(w http.ResponseWriter, r *http.Request) {
	s, err := h.b.Summary(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// maxQueries bounds a question for metrics of pods, maxPods how many it may be about, and maxWait how long one may wait for the answer; podsWait is for
// who does not say.
const (
	maxQueries = 4 << 20
	maxPods    = 4096
	maxWait    = time.Minute
	podsWait   = 8 * time.Second
)

func (h handler) podMetrics(w http.ResponseWriter, r *http.Request) {
	var queries []object.PodQuery
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQueries)).Decode(&queries); err != nil {
		http.Error(w, fmt.Sprintf("read which metrics of which pods are wanted: %v", err), http.StatusBadRequest)
		return
	}
	if len(queries) > maxPods {
		http.Error(w, fmt.Sprintf("metrics of %d pods are wanted: want at most %d", len(queries), maxPods), http.StatusBadRequest)
		return
	}
	wait := podsWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait <= 0 || wait > maxWait {
			http.Error(w, fmt.Sprintf("timeout is %q: want a time of at most %s", text, maxWait), http.StatusBadRequest)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	b, err := json.Marshal(h.b.PodMetrics(ctx, queries))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// flushWriter sends each piece at once, so that a follower sees lines as they come.
type flushWriter struct {
	w     http.ResponseWriter
	began bool
}

func (f *flushWriter) header() {
	f.began = true
	f.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	f.w.WriteHeader(http.StatusOK)
}

// Write implements io.Writer.
func (f *flushWriter) Write(b []byte) (int, error) {
	if !f.began {
		f.header()
	}
	n, err := f.w.Write(b)
	if fl, ok := f.w.(http.Flusher); ok {
		fl.Flush()
	}
	return n, err
}

func logOptions(r *http.Request) (LogOptions, error) {
	q := r.URL.Query()
	o := LogOptions{Tail: -1}
	var errs []error
	boolean := func(name string, to *bool) {
		if v := q.Get(name); v != "" {
			b, err := strconv.ParseBool(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s=%q: want true or false", name, v))
			}
			*to = b
		}
	}
	number := func(name string, to *int64) {
		if v := q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				errs = append(errs, fmt.Errorf("%s=%q: want a number, 0 or more", name, v))
				return
			}
			*to = n
		}
	}
	boolean("follow", &o.Follow)
	boolean("previous", &o.Previous)
	boolean("timestamps", &o.Timestamps)
	number("tailLines", &o.Tail)
	number("limitBytes", &o.LimitBytes)
	since := int64(0)
	number("sinceSeconds", &since)
	if since > 0 {
		o.Since = time.Now().Add(-time.Duration(since) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("sinceTime=%q: want RFC 3339", v))
		}
		o.Since = t
	}
	return o, errors.Join(errs...)
}
