package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Config is what a Client needs.
type Config struct {
	// Servers are the API's URLs ("https://10.0.0.1:6443"), in the order in which they are tried first.
	Servers []string
	// TLS holds the client's certificate and the authority (pki.ClientTLS, or FromKubeconfig).
	TLS *tls.Config
	// UserAgent names the program; empty is "reconcile".
	UserAgent string
	// Backoff is the first pause after a failure; it doubles up to 50 times as much. 0 is 100 ms.
	Backoff time.Duration
	// Log must be set.
	Log *slog.Logger
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("client: Servers is empty: name at least one server's URL"))
	}
	for _, s := range c.Servers {
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			errs = append(errs, fmt.Errorf("client: server %q: want a URL such as https://10.0.0.1:6443", s))
		}
	}
	if c.Log == nil {
		errs = append(errs, errors.New("client: Log is nil"))
	}
	return errors.Join(errs...)
}

// Client speaks to one of several servers: the one that answered last, until it fails. It is safe for use by several goroutines.
type Client struct {
	cfg  Config
	http *http.Client

	mu      sync.Mutex
	servers []string
	current int
}

// New makes a Client. It connects to nothing yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "reconcile"
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 100 * time.Millisecond
	}
	transport := &http.Transport{
		TLSClientConfig:     cfg.TLS,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		// A server whose machine went away does not close its connections: pings find that out.
		HTTP2:              &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		DisableCompression: false,
	}
	return &Client{cfg: cfg, http: &http.Client{Transport: transport}, servers: cfg.Servers}, nil
}

// SetServers replaces the list of servers, for example by what service default/kubernetes says. The one in use is kept if it is
// still in the list. An empty list changes nothing.
func (c *Client) SetServers(servers []string) {
	if len(servers) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.servers[c.current]
	c.servers, c.current = append([]string(nil), servers...), 0
	for i, s := range c.servers {
		if s == now {
			c.current = i
		}
	}
}

// Close ends idle connections. Requests under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// server is the one to be asked now, and how many there are.
func (c *Client) server() (string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[c.current], len(c.servers)
}

// leave goes on to the next server, unless somebody else has done so already.
func (c *Client) leave(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[c.current] == server {
		c.current = (c.current + 1) % len(c.servers)
	}
}
