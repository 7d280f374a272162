package main

import "testing"

// A test that fails for another reason than the bug, hangs or does not build has found nothing.
func TestJudge(t *testing.T) {
	c := check{says: `\d+ pushes won`}
	for name, tt := range map[string]struct {
		ok   bool
		out  string
		want result
	}{
		"passes":             {true, "ok  \tx\t0.1s\n", passed},
		"right reason":       {false, "--- FAIL: TestX (0.00s)\n    x_test.go:12: 8 pushes won, want 1\nFAIL\n", failed},
		"right in a subtest": {false, "--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/a (0.00s)\n        x_test.go:12: 8 pushes won, want 1\nFAIL\n", failed},
		"another reason":     {false, "--- FAIL: TestX (0.00s)\n    x_test.go:12: no leader within 30s\nFAIL\n", other},
		"a log of the test":  {false, "--- FAIL: TestX (0.00s)\n    x_test.go:12: no leader\n8 pushes won\nFAIL\n", other},
		"hangs":              {false, "--- FAIL: TestX (0.00s)\n    x_test.go:12: 8 pushes won, want 1\npanic: test timed out after 2m30s\n", crashed},
		"does not build":     {false, "x.go:1:1: undefined: y\nFAIL\tx [build failed]\n", other},
	} {
		if have := c.judge(tt.ok, tt.out); have != tt.want {
			t.Errorf("%s: %s, want %s", name, have, tt.want)
		}
	}
}

func TestPatternsCompile(t *testing.T) {
	for _, b := range bugs {
		for _, c := range b.checks {
			c.judge(false, "") // panics if it does not
		}
	}
}
