package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
		for _, sub := range subresources {
			if sub.of == t.groupResource() && sub.name == t.subresource {
				return sub.handlers(s)[method]
			}
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

// subresource is one that only one kind has.
type subresource struct {
	of   schema.GroupResource
	name string
	// group, version and kind are those of the body, as discovery tells them.
	group, version, kind string
	verbs                []string
	handlers             func(*Server) map[string]resourceHandler
}

// subresources is the table of what is peculiar to a kind.
var subresources = []subresource{
	{corev1.Resource("pods"), "attach", "", "v1", "PodAttachOptions", []string{"create", "get"}, tunnels("attach")},
	{corev1.Resource("pods"), "binding", "", "v1", "Binding", []string{"create"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPost: s.bind}
	}},
	{certificatesv1.Resource("certificatesigningrequests"), "approval", "certificates.k8s.io", "v1", "CertificateSigningRequest", verbsStatus, objectWrites},
	{corev1.Resource("namespaces"), "finalize", "", "v1", "Namespace", []string{"update"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPut: s.update}
	}},
	{corev1.Resource("nodes"), "proxy", "", "v1", "NodeProxyOptions", verbsProxy, proxies},
	{corev1.Resource("pods"), "ephemeralcontainers", "", "v1", "Pod", verbsStatus, objectWrites},
	{corev1.Resource("pods"), "eviction", "policy", "v1", "Eviction", []string{"create"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPost: s.evict}
	}},
	{corev1.Resource("pods"), "exec", "", "v1", "PodExecOptions", []string{"create", "get"}, tunnels("exec")},
	{corev1.Resource("pods"), "log", "", "v1", "Pod", []string{"get"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodGet: s.logs}
	}},
	{corev1.Resource("pods"), "portforward", "", "v1", "PodPortForwardOptions", []string{"create", "get"}, tunnels("portForward")},
	{corev1.Resource("pods"), "proxy", "", "v1", "PodProxyOptions", verbsProxy, proxies},
	{corev1.Resource("pods"), "resize", "", "v1", "Pod", verbsStatus, objectWrites},
	{corev1.Resource("serviceaccounts"), "token", "authentication.k8s.io", "v1", "TokenRequest", []string{"create"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPost: s.requestToken}
	}},
	{corev1.Resource("services"), "proxy", "", "v1", "ServiceProxyOptions", verbsProxy, proxies},
}

// verbsProxy are what a proxy passes on: every method.
var verbsProxy = []string{"create", "delete", "get", "patch", "update"}

// objectWrites serves a subresource that is the object itself, of which a part may be changed.
func objectWrites(s *Server) map[string]resourceHandler {
	return map[string]resourceHandler{http.MethodGet: s.get, http.MethodPut: s.update, http.MethodPatch: s.patch}
}

// proxies serves a subresource that passes requests on.
func proxies(s *Server) map[string]resourceHandler {
	return map[string]resourceHandler{
		http.MethodGet: s.proxy, http.MethodHead: s.proxy, http.MethodPost: s.proxy, http.MethodPut: s.proxy,
		http.MethodPatch: s.proxy, http.MethodDelete: s.proxy, http.MethodOptions: s.proxy,
	}
}

// tunnels serves a subresource whose connection is tunnelled to the agent under a kubelet's path.
func tunnels(path string) func(*Server) map[string]resourceHandler {
	return func(s *Server) map[string]resourceHandler {
		h := func(w http.ResponseWriter, r *http.Request, t target) error { return s.stream(w, r, t, path) }
		return map[string]resourceHandler{http.MethodGet: h, http.MethodPost: h}
	}
}
