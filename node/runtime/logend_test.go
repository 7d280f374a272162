package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if got := logEnd(path); got != "" {
		t.Errorf("of no log: %q", got)
	}
	write := func(n int, text func(int) string) {
		t.Helper()
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "2026-01-01T00:00:00.%09dZ stderr F %s\n", i, text(i))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(2, func(i int) string { return fmt.Sprint("line ", i) })
	if got := logEnd(path); got != "line 0\nline 1\n" {
		t.Errorf("of two lines: %q", got)
	}
	write(1000, func(i int) string { return fmt.Sprint(i) })
	if got := strings.Split(strings.TrimSpace(logEnd(path)), "\n"); len(got) != logEndLines || got[0] != "920" || got[79] != "999" {
		t.Errorf("of a thousand lines: %d, %q to %q", len(got), got[0], got[len(got)-1])
	}
	write(100, func(int) string { return strings.Repeat("x", 500) })
	if got := logEnd(path); len(got) != logEndBytes {
		t.Errorf("of long lines: %d bytes", len(got))
	}
	if err := os.WriteFile(path, []byte("2026-01-01T00:00:00Z stdout P half\n2026-01-01T00:00:00Z stdout F  and half\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := logEnd(path); got != "half and half\n" {
		t.Errorf("of a line in two parts: %q", got)
	}
}
