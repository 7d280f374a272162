package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/authz"
	"reconcile/object"
)

// Server is the API's http.Handler. It is safe for use by several goroutines.
type Server struct {
	cfg       Config
	enc       encoder
	zips      zips
	discovery discoveryDocs
	openapi   openAPIDocs
	managers  fieldManagers
	flow      *flow
	metrics   *metrics
	streams   streams
	sent      sendings
	began     time.Time
	// outward reaches pods.
	outward http.RoundTripper
}

// New makes a Server. It starts nothing; requests run in the goroutines of the http.Server that calls it, and watches end with
// their request's context.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 128 << 20
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = writeTimeout
	}
	cfg.Limits = cfg.Limits.filled()
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = defaultRequests
	}
	s := &Server{cfg: cfg, enc: encoder{newByteCache(cfg.CacheBytes), newByteCache(min(recentBytes, cfg.CacheBytes))}, zips: newZips(cfg.CacheBytes / 8), flow: newFlow(cfg.MaxRequests), began: time.Now(),
		outward: newOutward(cfg.Dial)}
	s.streams = streams{most: cfg.Limits.Streams, ofUser: cfg.Limits.StreamsOfUser, open: map[string]int{}}
	var err error
	if s.metrics, err = newMetrics(cfg.Registerer, s.flow); err != nil {
		return nil, fmt.Errorf("register the API's metrics: %w", err)
	}
	if s.discovery, err = newDiscovery(object.Served(), cfg.ServerAddress); err != nil {
		return nil, fmt.Errorf("make the discovery documents: %w", err)
	}
	if s.openapi, err = newOpenAPI(object.Served()); err != nil {
		return nil, fmt.Errorf("make the OpenAPI documents: %w", err)
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(w, r)
	if r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of the connection's last answer; see pace
	}
	user, err := s.authenticate(r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	r = r.WithContext(authz.WithUser(r.Context(), user))
	switch {
	case strings.HasPrefix(r.URL.Path, "/git/") && s.cfg.Git != nil:
		s.cfg.Limits.limit(w, r, false)
		s.cfg.Git.ServeHTTP(w, r)
		return
	case strings.HasPrefix(r.URL.Path, "/reconcile/v1/") && s.cfg.Reconcile != nil:
		s.cfg.Limits.limit(w, r, false)
		s.cfg.Reconcile.ServeHTTP(w, r)
		return
	}
	if t, ok := parseTarget(r.URL); ok {
		if t.subresource != "proxy" {
			s.cfg.Limits.limit(w, r, true)
		}
		s.measure(w, r, t, func(w http.ResponseWriter) error { return s.resource(w, r, t) })
		return
	}
	s.cfg.Limits.limit(w, r, true)
	if err := s.plainPath(w, r); err != nil {
		s.writeError(w, r, err)
	}
}

// recover answers a request whose handler panicked and keeps the server alive.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.cfg.Log.Error("request handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.writeError(w, r, apierrors.NewInternalError(fmt.Errorf("the handler of %s %s panicked", r.Method, r.URL.Path)))
}

// resource serves a request for a resource: rights first, then its turn among what is served at once, then the verb.
func (s *Server) resource(w http.ResponseWriter, r *http.Request, t target) error {
	a := t.attributes(authz.UserFrom(r.Context()), t.verb(r.Method))
	// What an agent may create depends on the object, so its rights are judged once that is read (authorizeCreate).
	if a.Verb != "create" || a.User.Node() == "" || t.subresource != "" {
		if d := authz.Authorize(a, s.cfg.Store.View().Get); !d.Allowed {
			return forbidden(a, d.Reason)
		}
	}
	long := longRunning(r, t)
	if !long {
		var cancel context.CancelFunc
		var err error
		if r, cancel, err = allotted(r, t); err != nil {
			return err
		}
		defer cancel()
	}
	// Who has no right to ask takes no slot from those who have.
	leave, err := s.turn(r, t)
	if err != nil {
		return err
	}
	defer leave()
	if !long {
		if err := checkOptions(r, t); err != nil {
			return err
		}
		if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
			return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
		}
	}
	if t.action != nil {
		return s.act(w, r, t)
	}
	if !t.known {
		return s.absent(w, r, t, a.Verb)
	}
	if t.kind.Deprecated != "" {
		warn(w, t.kind.Deprecated)
	}
	handle := s.handler(r.Method, t)
	if handle == nil {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			if s.handler(method, t) != nil {
				return notAllowed()
			}
		}
		return notServed()
	}
	return handle(w, r, t)
}

func (s *Server) authorizeCreate(r *http.Request, t target, o object.Object) error {
	a := t.attributes(authz.UserFrom(r.Context()), "create")
	a.Object = o
	if d := authz.Authorize(a, s.cfg.Store.View().Get); !d.Allowed {
		return forbidden(a, d.Reason)
	}
	return nil
}

// resourceHandler serves one verb of a resource or of a subresource.
type resourceHandler func(http.ResponseWriter, *http.Request, target) error

// handler finds who serves a method of a target, nil if nobody does.
func (s *Server) handler(method string, t target) resourceHandler {
	switch {
	case t.subresource == "status" && t.kind.Status:
		return map[string]resourceHandler{http.MethodGet: s.get, http.MethodPut: s.update, http.MethodPatch: s.patch}[method]
	case t.subresource == "scale" && t.kind.Scale:
		return map[string]resourceHandler{http.MethodGet: s.getScale, http.MethodPut: s.updateScale, http.MethodPatch: s.patchScale}[method]
	case t.subresource != "":
		if sub, ok := t.kind.Subresource(t.subresource); ok {
			return deeds[sub.Does].handlers(s)[method]
		}
		return nil
	case t.name == "":
		switch method {
		case http.MethodGet:
			if isSet(t.query, "watch") {
				return s.watch
			}
			return s.list
		case http.MethodPost:
			return s.create
		case http.MethodDelete:
			if !t.kind.OneByOne {
				return s.deleteCollection
			}
		}
		return nil
	}
	return map[string]resourceHandler{
		http.MethodGet: s.get, http.MethodPut: s.update, http.MethodPatch: s.patch, http.MethodDelete: s.delete,
	}[method]
}
