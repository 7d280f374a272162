package client_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"reconcile/client"
	"reconcile/object"
)

// TestNoWriteIsSentTwice: two servers take a whole request and die without an answer. A write may have been done, so it goes to no
// other server; a read does.
func TestNoWriteIsSentTwice(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var servers []string
	for range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			asked.Add(1)
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		}))
		t.Cleanup(s.Close)
		servers = append(servers, s.URL)
	}
	c, err := client.New(client.Config{Servers: servers, Backoff: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, write := range map[string]func() error{
		"create": func() error { _, err := c.Create(t.Context(), configMap("a", "1")); return err },
		"update": func() error { _, err := c.Update(t.Context(), configMap("a", "1")); return err },
	} {
		asked.Store(0)
		if err := write(); err == nil || asked.Load() != 1 {
			t.Errorf("%s: sent %d times, err %v; want once and an error", what, asked.Load(), err)
		}
	}
	asked.Store(0)
	if _, err := c.Get(t.Context(), object.Key{Resource: "configmaps", Namespace: "default", Name: "a"}); err == nil || asked.Load() < 2 {
		t.Errorf("get: sent %d times, err %v; want both servers asked, and an error", asked.Load(), err)
	}
}
