package api

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestStreamCount: users have their bounds, the server has its own, and what ends makes room for the next.
func TestStreamCount(t *testing.T) {
	t.Parallel()
	s := streams{most: 5, ofUser: 2, open: map[string]int{}}
	var ends []func()
	begin := func(user string, want bool) {
		t.Helper()
		end, err := s.begin(user)
		if (err == nil) != want || err != nil && !apierrors.IsTooManyRequests(err) {
			t.Errorf("one more of %s: %v, want it to be let in: %v", user, err, want)
		}
		if err == nil {
			ends = append(ends, end)
		}
	}
	for _, user := range []string{"a", "b"} {
		begin(user, true)
		begin(user, true)
		begin(user, false)
	}
	begin("c", true)
	begin("c", false) // the server's own bound
	ends[0]()
	begin("c", true)
	begin("a", false)
	for _, end := range ends[1:] {
		end()
	}
	if s.all != 0 || len(s.open) != 0 {
		t.Errorf("%d are open, of %v, when all have ended", s.all, s.open)
	}
}
