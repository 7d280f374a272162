package api

import (
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/authz"
	"reconcile/object"
	"reconcile/sequencer"
)

// many is a store of so many pods, which counts how many are looked at.
type many struct {
	Store
	pods, seen int
}

func (m *many) View() View                           { return m }
func (m *many) Rev() uint64                          { return 1 }
func (m *many) Get(object.Key) (object.Object, bool) { return nil, false }
func (m *many) List(string, string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for range m.pods {
			m.seen++
			if !yield(&corev1.Pod{}) {
				return
			}
		}
	}
}

// TestWeightOfRequests weighs requests by the objects that they touch, and counts no further than it matters.
func TestWeightOfRequests(t *testing.T) {
	m := &many{}
	s, err := New(Config{Store: m, Writer: new(sequencer.Sequencer), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		pods, want   int
	}{
		{"GET", "pods", 50, 1},
		{"GET", "pods", 1000, 10},
		{"GET", "pods", 100000, 20},
		{"DELETE", "pods", 1000, 10},
		{"GET", "pods/a", 1000, 1},
		{"POST", "pods", 1000, 1},
		{"GET", "pods?limit=500", 100000, 5},
		{"GET", "pods?limit=500&labelSelector=a%3Db", 1000, 10},
		{"GET", "pods?fieldSelector=metadata.name%3Da", 1000, 1},
		{"GET", "pods?fieldSelector=spec.nodeName%3Da", 1000, 10},
		{"GET", "pods?watch=true", 1000, 10},
		{"GET", "pods?watch=true&resourceVersion=0", 1000, 10},
		{"GET", "pods?watch=true&resourceVersion=5", 1000, 1},
		{"GET", "pods?watch=true&resourceVersion=5&sendInitialEvents=true", 1000, 10},
		{"GET", "nothings", 1000, 1},
	} {
		m.pods, m.seen = c.pods, 0
		r := httptest.NewRequest(c.method, "/api/v1/namespaces/a/"+c.path, http.NoBody)
		target, ok := parseTarget(r.URL)
		if !ok {
			t.Fatal(c.path)
		}
		if got := s.weightOf(r, target); got != c.want || m.seen > 2000 {
			t.Errorf("%s %s of %d pods takes %d slots after a look at %d, want %d after 2,000 at most", c.method, c.path, c.pods, got, m.seen, c.want)
		}
	}
}

// Watch implements Store: nothing of the past is kept.
func (m *many) Watch(string, string, uint64) (Watch, error) { return nil, ErrCompacted }

// TestTooManyWatches tells who begins one watch too many to come again. Those who may not watch use nothing up.
func TestTooManyWatches(t *testing.T) {
	s, err := New(Config{Store: &many{}, Writer: new(sequencer.Sequencer), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(u authz.User) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/api/v1/pods?watch=true&resourceVersion=1", http.NoBody)
		target, _ := parseTarget(r.URL)
		r = r.WithContext(authz.WithUser(r.Context(), u))
		s.measure(w, r, target, func(w http.ResponseWriter) error { return s.resource(w, r, target) })
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "1" {
			t.Errorf("the refusal says %v", w.Header())
		}
		return w.Code
	}
	for range 2 * watchBurst {
		if code := ask(authz.User{Name: "system:anonymous"}); code != http.StatusForbidden {
			t.Fatalf("anonymous: %d", code)
		}
	}
	admin := authz.User{Name: "admin", Groups: []string{authz.GroupMasters}}
	codes := map[int]int{}
	for range 2 * watchBurst {
		codes[ask(admin)]++
	}
	if codes[http.StatusOK] < watchBurst || codes[http.StatusTooManyRequests] == 0 {
		t.Error("answers by code: ", codes)
	}
	if code := ask(authz.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}); code == http.StatusTooManyRequests {
		t.Error("an agent was refused for the administrator's watches")
	}
}
