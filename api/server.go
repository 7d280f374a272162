package api

import (
	"net/http"
	"time"
)

// Server is the API's http.Handler.
type Server struct {
	cfg Config
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
		cfg.CacheBytes = 64 << 20
	}
	return &Server{cfg: cfg}, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
