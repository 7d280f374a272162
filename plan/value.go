package plan

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// maxValue is how many bytes of a value a plan shows.
const maxValue = 80

// text is a value as a plan shows it, nil for an absent field. What may hold a Secret's data is never shown.
func text(key object.Key, path string, v any) *string {
	if v == nil {
		return nil
	}
	t := ""
	if secret(key, path) {
		t = "(changed)"
	} else {
		t = shown(v)
	}
	return &t
}

// secret tells whether a field holds data of a Secret: its data, or the copy of itself that kubectl leaves in an annotation.
func secret(key object.Key, path string) bool {
	if key.Resource != "secrets" {
		return false
	}
	return strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData") || strings.Contains(path, corev1.LastAppliedConfigAnnotation)
}

func shown(v any) string {
	t, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprintf("%v", v)
		}
		t = string(b)
	} else if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) || strings.TrimSpace(t) != t {
		t = strconv.Quote(t)
	}
	if len(t) <= maxValue {
		return t
	}
	cut := maxValue - 20
	for cut > 0 && !utf8.RuneStart(t[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", t[:cut], len(t))
}
