package needs

import (
	"fmt"
	"testing"
)

// ended is a test that tells how it was ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper()           {}
func (e *ended) Skip(args ...any)  { e.how = "skip " + fmt.Sprintln(args...) }
func (e *ended) Fatal(args ...any) { e.how = "fail " + fmt.Sprintln(args...) }

func TestMissing(t *testing.T) {
	for value, want := range map[string]string{
		"":  "skip skipped: root run it as root\n",
		"1": "fail nothing may be missing here (TEST_REQUIRED is set): root run it as root\n",
	} {
		t.Setenv(Variable, value)
		e := &ended{TB: t}
		Missing(e, "root", "run it as root")
		if e.how != want {
			t.Errorf("%s=%q: %q, want %q", Variable, value, e.how, want)
		}
	}
}
