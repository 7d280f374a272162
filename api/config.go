package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"reconcile/object"
)

// FieldOrigin is where git says a field.
type FieldOrigin struct {
	Commit string
	File   string
	Line   int
}

// Origins finds where git says a field of an object; gitops knows. It answers false if it cannot tell.
type Origins interface {
	Origin(key object.Key, field string) (FieldOrigin, bool)
}

// Agents tells how to reach the HTTPS endpoint of a node's agent.
type Agents interface {
	// Endpoint is HOST:PORT of the node's agent, and the TLS with which to call it.
	Endpoint(node *corev1.Node) (addr string, cfg *tls.Config, err error)
}

// Check is one line of /readyz or /livez.
type Check struct {
	Name string
	Run  func(context.Context) error
}

// Config is what a Server needs.
type Config struct {
	Store  Store
	Writer Writer
	// Origins may be nil: refusals then name only the field and what the object's annotations say.
	Origins Origins
	// Agents may be nil: logs and streams then answer 503.
	Agents Agents
	// Dial reaches pods for the subresource proxy; nil is the host's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Tokens may be nil: then there are no tokens of service accounts.
	Tokens Tokens
	// Usage is what pods and nodes use, for metrics.k8s.io; nil is 503.
	Usage func(context.Context) (Usage, error)
	// CustomMetrics is what pods told of themselves, for custom.metrics.k8s.io and external.metrics.k8s.io; nil is 503.
	CustomMetrics func(context.Context) (CustomMetrics, error)
	// Git serves /git/; Reconcile serves /reconcile/v1/. Both find the user by authz.UserFrom(r.Context()) and decide themselves
	// what anonymous users get. Either may be nil (404).
	Git, Reconcile http.Handler
	// Metrics serves /metrics; nil is 404. See MetricsHandler.
	Metrics http.Handler
	// Registerer is told the API's own metrics; nil counts nothing.
	Registerer prometheus.Registerer
	// MaxRequests bounds the requests that are served at once, watches and streams aside; 0 is 400. Long lists count for several (flow.go). More wait in a queue.
	MaxRequests int
	// WriteTimeout is how long an answer waits for its client to take a piece of it; then the request is ended, and a watcher resumes. 0 is 30 s.
	// The http.Server must have HTTP2's settings for it.
	WriteTimeout time.Duration
	// Limits bound what a client may cost. Whoever serves the API makes its http.Server with them too (Limits.HTTPServer).
	Limits Limits
	// Ready and Live are the checks of /readyz and of /livez and /healthz.
	Ready, Live []Check
	// Version is what /version says. It is Kubernetes' version whose API this is.
	Version version.Info
	// ServerAddress is HOST:PORT that /api names to clients.
	ServerAddress string
	// CacheBytes bounds the cache of encoded JSON, half of which is sure to be kept; 0 is 128 MiB.
	CacheBytes int64
	// Log must be set.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("api: Store is nil"))
	}
	if c.Writer == nil {
		errs = append(errs, errors.New("api: Writer is nil"))
	}
	if c.MaxRequests < 0 {
		errs = append(errs, fmt.Errorf("api: MaxRequests is %d, want 0 (the default) or more", c.MaxRequests))
	}
	if c.WriteTimeout < 0 {
		errs = append(errs, fmt.Errorf("api: WriteTimeout is %s, want 0 (the default) or more", c.WriteTimeout))
	}
	if err := c.Limits.validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Log == nil {
		errs = append(errs, errors.New("api: Log is nil"))
	}
	return errors.Join(errs...)
}
