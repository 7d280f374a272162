package scheduler

import "testing"

// Counts of nodes are no reasons, numbers in names are.
func TestReasonsIn(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"0/1 nodes are available: 1 Insufficient cpu.", "0/12 nodes are available: 12 Insufficient cpu.", true},
		{"0/2 nodes are available: 2 Insufficient cpu.", "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.", false},
		{"0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.5gb.", "0/1 nodes are available: 1 Insufficient nvidia.com/mig-2g.10gb.", false},
		{"0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
			"0/4 nodes are available: 4 Insufficient cpu. preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod.", true},
	} {
		if got := reasonsIn(c.a) == reasonsIn(c.b); got != c.same {
			t.Errorf("%q and %q: the same %v, want %v", c.a, c.b, got, c.same)
		}
	}
}
