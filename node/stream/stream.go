package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reconcile/object"
)

// Size is of a terminal.
type Size struct{ Width, Height uint16 }

// Streams are a client's ends of a command. Nil ones were not asked for. Resize is closed when the client is gone.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Size
}

// LogOptions are those of Kubernetes' PodLogOptions.
type LogOptions struct {
	Follow, Previous, Timestamps bool
	// Tail is the number of last lines; negative is all.
	Tail int64
	// Since leaves out older lines; zero is all.
	Since time.Time
	// LimitBytes ends the answer; 0 is no limit.
	LimitBytes int64
}

// Backend finds a pod's container and works on it. An error for which errors.Is(err, ErrNotFound) becomes 404, ErrNotRunning
// 400, any other 500.
type Backend interface {
	// Exec blocks until the command ends; code is its exit code.
	Exec(ctx context.Context, namespace, pod, container string, command []string, s Streams) (code int, err error)
	// Attach blocks until the container ends or ctx does.
	Attach(ctx context.Context, namespace, pod, container string, s Streams) error
	// Logs writes the container's log, and with Follow goes on until the container has ended or ctx does. It writes nothing
	// before it knows that there is a log.
	Logs(ctx context.Context, namespace, pod, container string, o LogOptions, w io.Writer) error
	// Metrics is what the node and its containers use, in the text format of Prometheus.
	Metrics(ctx context.Context) ([]byte, error)
	// Counters is the same for the leader.
	Counters(ctx context.Context) (*object.NodeCounters, error)
	// Summary is the same and more, as a kubelet's /stats/summary.
	Summary(ctx context.Context) (*statsapi.Summary, error)
	// PodMetrics asks pods of this node for metrics of their own. Each has an answer, at its place; what cannot be asked, or has not answered when
	// ctx ends, says why.
	PodMetrics(ctx context.Context, queries []object.PodQuery) []object.PodSamples
	// Dial connects to a TCP port of the pod's loopback.
	Dial(ctx context.Context, namespace, pod string, port int32) (net.Conn, error)
}

var (
	// ErrNotFound says that there is no such pod or container here, or no log of it yet.
	ErrNotFound = errors.New("not found on this node")
	// ErrNotRunning says that the container is there and does not run.
	ErrNotRunning = errors.New("container is not running")
)

// Config of the endpoint.
type Config struct {
	// Listener accepts plain TCP; TLS is added to it. Run closes it.
	Listener net.Listener
	// TLS has the node's serving certificate and the cluster's CA in ClientCAs. Client certificates are made a must here.
	TLS *tls.Config
	// ClientNames are the common names of client certificates that may call: the servers'. Members of the organisation
	// "system:masters" may too.
	ClientNames []string
	Backend     Backend
	Log         *slog.Logger
}

// Validate lists all faults.
func (c Config) Validate() error {
	var errs []error
	if c.Listener == nil {
		errs = append(errs, errors.New("stream config: Listener must be set"))
	}
	if c.TLS == nil || c.TLS.ClientCAs == nil {
		errs = append(errs, errors.New("stream config: TLS must be set, with ClientCAs"))
	}
	if c.Backend == nil || c.Log == nil {
		errs = append(errs, errors.New("stream config: Backend and Log must be set"))
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then closes the listener, which it owns, and every connection. Handlers end with ctx; those whose
// connection was upgraded may outlive Run by a moment.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		if c.Listener != nil {
			c.Listener.Close()
		}
		return err
	}
	tc := c.TLS.Clone()
	tc.ClientAuth = tls.RequireAndVerifyClientCert
	tc.NextProtos = []string{"http/1.1"}
	srv := &http.Server{
		Handler:           c.allow(Handler(c.Backend, c.Log)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(c.Listener, tc)) }()
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serve the node's endpoint: %w", err), srv.Close())
	case <-ctx.Done():
	}
	err := srv.Close()
	if end := <-done; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// allow answers 403 to certificates of the CA that are not a server's or a master's.
func (c Config) allow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "a client certificate is needed", http.StatusUnauthorized)
			return
		}
		who := r.TLS.PeerCertificates[0].Subject
		if !slices.Contains(c.ClientNames, who.CommonName) && !slices.Contains(who.Organization, "system:masters") {
			http.Error(w, fmt.Sprintf("user %q may not call a node; API servers may", who.CommonName), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
