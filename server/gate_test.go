package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestGate(t *testing.T) {
	g := &gate{next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	code := func(path string) int {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code
	}
	for path, want := range map[string]int{"/api/v1/pods": 503, "/git/cluster.git/info/refs": 503, "/livez": 418, "/readyz/leader": 418, "/version": 418} {
		if got := code(path); got != want {
			t.Errorf("%s before the server has caught up answers %d, want %d", path, got, want)
		}
	}
	g.open.Store(true)
	if got := code("/api/v1/pods"); got != 418 {
		t.Errorf("/api/v1/pods afterwards answers %d, want it passed on", got)
	}
}
