package server

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// gate lets nobody read before this server has caught up with what was committed. After a restart the state is empty until the log has
// been applied, and an agent that was told so would end its containers.
type gate struct {
	open atomic.Bool
	next http.Handler
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.open.Load() || isProbe(r.URL.Path) {
		g.next.ServeHTTP(w, r)
		return
	}
	// Nothing was done with the request, so that a client may send it again.
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"ServiceUnavailable","code":503,` +
		`"message":"this server has not caught up with the cluster yet; try again in a second"}` + "\n"))
}

// isProbe tells whether a path may be asked at any time.
func isProbe(path string) bool {
	for _, p := range []string{"/livez", "/readyz", "/healthz", "/version"} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}
