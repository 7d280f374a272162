package scheduler

import (
	"testing"

	"pgregory.net/rapid"
)

// TestUsualScores holds the short way to score a node's resources by the usual profile to the one for all profiles.
func TestUsualScores(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := func(most int64, name string) int64 { return rapid.Int64Range(0, most).Draw(t, name) }
		p := DefaultProfile()
		for i := range p.Resources {
			p.Resources[i].Weight = amount(5, "weight")
		}
		if rapid.Bool().Draw(t, "memory first") {
			p.Resources[0], p.Resources[1] = p.Resources[1], p.Resources[0]
		}
		n := &nodeState{allocatable: amounts{cpu: amount(64000, "cpu"), memory: amount(256<<30, "memory")}}
		n.used = amounts{cpu: amount(70000, "used cpu"), memory: amount(300<<30, "used memory")}
		n.usedScore = score{n.used.cpu + amount(2000, "more cpu"), n.used.memory + amount(1<<30, "more memory")}
		d := &demand{requests: amounts{cpu: amount(4000, "asked cpu"), memory: amount(8<<30, "asked memory")}}
		d.score = score{max(d.requests.cpu, defaultCPU), max(d.requests.memory, defaultMemory)}
		w := weightsOf(p)
		if !w.usual {
			t.Fatal("the profile is not taken for the usual one")
		}
		fit, even := p.resourceScores(&w, n, d)
		if wantFit, wantEven := p.fitScore(n, d), p.balanced(n, d); fit != wantFit || even != wantEven {
			t.Fatalf("%d and %d, want %d and %d", fit, even, wantFit, wantEven)
		}
	})
}
