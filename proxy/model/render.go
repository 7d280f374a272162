package model

import (
	"fmt"
	"strings"
)

// Render prints a state for people: a line a service, a line a backend, in order.
func Render(s State) string {
	var b strings.Builder
	for _, f := range s.Frontends() {
		svc := s[f]
		b.WriteString(f.String())
		if svc.Name != "" {
			b.WriteString(" " + svc.Name)
		}
		fmt.Fprintf(&b, " masquerade=%s", svc.Masquerade)
		if svc.Affinity > 0 {
			fmt.Fprintf(&b, " affinity=%s", svc.Affinity)
		}
		if len(svc.Backends) == 0 {
			fmt.Fprintf(&b, " no backends: %s", svc.Empty)
		}
		b.WriteByte('\n')
		for _, backend := range svc.Backends {
			b.WriteString("  -> " + backend.String() + "\n")
		}
	}
	return b.String()
}
