package apiserver

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// difference is one that is meant, with its reason. docs/kubectl.md tells users of those that they can meet.
type difference struct {
	why string
	is  func(peer, ours string) bool
}

// reason tells why a difference is meant, empty if it is not.
func reason(p played) string {
	for _, d := range known {
		if d.is(p.peer, p.ours) {
			return d.why
		}
	}
	return ""
}

// known are the differences that are meant.
var known = []difference{
	{"kube-apiserver answers 500 to what is the client's fault; ours says what is wrong (4xx)", func(peer, ours string) bool {
		return strings.HasPrefix(peer, "500 ") && (strings.HasPrefix(ours, "400 ") || strings.HasPrefix(ours, "409 ") || strings.HasPrefix(ours, "422 "))
	}},
	{"a body of another kind: kube-apiserver names its own Go types", sameCode("400", `unknown conversion|is registered for version|\(\*core\.|decoded object cannot be converted`)},
	{"a media type that is not served: the codes are the same, ours lists what is", func(peer, ours string) bool {
		return sameCode("406", ".")(peer, ours) || sameCode("415", ".")(peer, ours)
	}},
	{"a JSON patch that cannot be applied: ours adds the reason", sameCode("422", `"message": "the server rejected our request due to an error in our request"`)},
	{"a patch that makes no object of the kind: the codes are the same; the texts show the document in the order or form that each side has it in", sameCode("422", `"field": "patch"`)},
	{"kube-apiserver lists a fault of the metadata as often as it looks, ours once", func(peer, ours string) bool {
		a, b := causes(peer), causes(ours)
		return strings.HasPrefix(ours, "422 ") && a != nil && slices.Equal(a, b)
	}},
	{"kube-apiserver tells to continue where nothing that is selected is left; ours looks ahead", func(peer, ours string) bool {
		return without(peer, `"continue": "\\u003ctoken\\u003e",?`) == without(ours, `"never"`)
	}},
	{"reviews keep no managers of fields", func(peer, ours string) bool {
		return strings.Contains(peer, `"kind": "`) && strings.Contains(ours, "Review\"")
	}},
}

// sameCode tells answers of one code whose texts differ, where the peer's matches.
func sameCode(code, peers string) func(peer, ours string) bool {
	re := regexp.MustCompile(peers)
	return func(peer, ours string) bool {
		return strings.HasPrefix(peer, code+" ") && strings.HasPrefix(ours, code+" ") && re.MatchString(peer)
	}
}

// causes are the causes of a Status, sorted, each once.
func causes(answer string) []string {
	_, doc, ok := strings.Cut(answer, "\n{")
	if !ok {
		return nil
	}
	var st struct {
		Details struct {
			Causes []struct{ Reason, Message, Field string }
		}
	}
	if json.Unmarshal([]byte("{"+doc), &st) != nil {
		return nil
	}
	var out []string
	for _, c := range st.Details.Causes {
		out = append(out, c.Field+" "+c.Reason+" "+c.Message)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// without is an answer without the lines that match and without what a missing line changes: blanks and commas at the ends of lines.
func without(answer string, lines ...string) string {
	var drop []*regexp.Regexp
	for _, l := range lines {
		drop = append(drop, regexp.MustCompile(`^\s*`+l+`$`))
	}
	var out []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(drop, func(re *regexp.Regexp) bool { return re.MatchString(line) }) {
			out = append(out, strings.TrimSuffix(line, ","))
		}
	}
	return strings.Join(out, "\n")
}
