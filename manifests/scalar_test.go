package manifests

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestScalarsAreReadAsKubectlReadsThem compares documents of random plain scalars, as keys and as values, with
// sigs.k8s.io/yaml. The alphabet is that of numbers, booleans, times and their near misses.
func TestScalarsAreReadAsKubectlReadsThem(t *testing.T) {
	for _, s := range []string{"0o7", "010", "1_000", "0x1F", "1e3", "1E+3", "190:20", "2001-01-01", "2001-01-01T00:00:00Z", ".5", "5.", "+12", "-0", "0b11", "y", "No", "ON", "off", "tRUE",
		"~", "null", "Null", "nULL", "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1e400", "<<", "=", "100m", "64Mi", "25%", "1.2.3", "v1", "0x", "1__0", "_1", "+", "-x", ".", "..", ".nano", "12e03", "0.0", "-.5e-3"} {
		sameAsSigs(t, []byte("a: "+s+"\n"))
	}
	word := rapid.StringOfN(rapid.SampledFrom([]rune("0123456789+-._:xobeEafinNyYtrueTFlsO~TZ")), 1, 8, -1)
	rapid.Check(t, func(rt *rapid.T) {
		s := word.Draw(rt, "scalar")
		if strings.HasSuffix(s, ":") {
			rt.Skip()
		}
		sameAsSigs(t, []byte("k: "+s+"\nl: ["+strings.ReplaceAll(s, ":", "")+"]\n"))
	})
}
