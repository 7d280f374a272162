package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"reconcile/authz"
)

// plainPath serves everything that is no resource.
func (s *Server) plainPath(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	verb := target{name: "-"}.verb(r.Method)
	a := authz.Attributes{User: authz.UserFrom(r.Context()), Verb: verb, Path: path}
	if d := authz.Authorize(a, nil); !d.Allowed {
		return forbidden(a, d.Reason)
	}
	clean := strings.TrimSuffix(path, "/")
	w.Header().Set("Cache-Control", "no-cache, private")
	switch {
	case verb != "get" && verb != "create" || clean == "/version" && verb != "get":
		return notAllowed()
	case clean == "/version":
		return sendJSON(w, r, s.cfg.Version)
	case clean == "/livez" || clean == "/healthz":
		return s.health(w, r, clean[1:], s.cfg.Live)
	case clean == "/readyz":
		return s.health(w, r, "readyz", s.cfg.Ready)
	case strings.HasPrefix(clean, "/readyz/"):
		return s.oneCheck(w, r, "readyz", s.cfg.Ready)
	case strings.HasPrefix(clean, "/livez/"):
		return s.oneCheck(w, r, "livez", s.cfg.Live)
	case strings.HasPrefix(clean, "/healthz/"):
		return s.oneCheck(w, r, "healthz", s.cfg.Live)
	case clean == "/metrics" && s.cfg.Metrics != nil:
		s.cfg.Metrics.ServeHTTP(w, r)
		return nil
	case clean == pathOpenID || clean == pathKeys:
		return s.openID(w, r, clean)
	case clean == "":
		return sendJSON(w, r, map[string][]string{"paths": s.paths()})
	case clean == "/openapi/v2":
		return s.serveOpenAPIv2(w, r)
	case clean == "/openapi/v3" || strings.HasPrefix(clean, "/openapi/v3/"):
		return s.serveOpenAPI(w, r, strings.TrimPrefix(strings.TrimPrefix(clean, "/openapi/v3"), "/"))
	case clean == "/api" || clean == "/apis" || strings.HasPrefix(clean, "/api/") || strings.HasPrefix(clean, "/apis/"):
		return s.serveDiscovery(w, r, clean)
	}
	http.NotFound(w, r)
	return nil
}

func (s *Server) paths() []string {
	return append(s.discovery.paths(), pathOpenID, "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", pathKeys, "/readyz", "/version")
}

func sendJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, mediaJSON, append(b, '\n'))
	return nil
}

// health runs the checks and answers as Kubernetes does: "ok", or a line a check with ?verbose or on failure. Those that ?exclude names are left out.
func (s *Server) health(w http.ResponseWriter, r *http.Request, name string, checks []Check) error {
	var out strings.Builder
	failed := ""
	unknown := map[string]bool{}
	for _, n := range r.URL.Query()["exclude"] {
		unknown[n] = true
	}
	excluded := maps.Clone(unknown)
	ping := Check{Name: "ping", Run: func(context.Context) error { return nil }} // that somebody answers
	for _, c := range append([]Check{ping}, checks...) {
		if excluded[c.Name] {
			delete(unknown, c.Name)
			fmt.Fprintf(&out, "[+]%s excluded: ok\n", c.Name)
			continue
		}
		if err := c.Run(r.Context()); err != nil {
			// What fails is told to the log and to masters; others learn only that it does.
			failed = c.Name
			reason := "reason withheld"
			if authz.UserFrom(r.Context()).In(authz.GroupMasters) {
				reason = err.Error()
			}
			fmt.Fprintf(&out, "[-]%s failed: %s\n", c.Name, reason)
			s.cfg.Log.Debug("health check failed", "endpoint", name, "check", c.Name, "err", err)
			continue
		}
		fmt.Fprintf(&out, "[+]%s ok\n", c.Name)
	}
	if len(unknown) > 0 {
		names := slices.Sorted(maps.Keys(unknown))
		for i, n := range names {
			names[i] = strconv.Quote(n)
		}
		fmt.Fprintf(&out, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(names, ", "))
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed != "":
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", out.String(), name)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", out.String(), name)
	default:
		fmt.Fprint(w, "ok")
	}
	return nil
}

// oneCheck serves /readyz/NAME, /livez/NAME and /healthz/NAME.
func (s *Server) oneCheck(w http.ResponseWriter, r *http.Request, name string, checks []Check) error {
	want := strings.Trim(strings.TrimPrefix(r.URL.Path, "/"+name+"/"), "/")
	if want == "ping" {
		return s.health(w, r, name, nil)
	}
	for _, c := range checks {
		if c.Name == want {
			return s.health(w, r, name, []Check{c})
		}
	}
	http.NotFound(w, r)
	return nil
}

// MetricsHandler serves a registry, to which the collectors of Go's runtime and of the process are added. A nil registry is a new one.
func MetricsHandler(reg *prometheus.Registry) (http.Handler, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the process's metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), nil
}
