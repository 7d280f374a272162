package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// normal takes out of answers what differs by nature. One belongs to one side of one course.
type normal struct {
	symbols map[string]string
	counts  map[string]int
}

func newNormal() *normal { return &normal{symbols: map[string]string{}, counts: map[string]int{}} }

// symbol stands for a value, numbered as it first appeared.
func (n *normal) symbol(sort, value string) string {
	s, ok := n.symbols[sort+value]
	if !ok {
		n.counts[sort]++
		s = fmt.Sprintf("<%s %d>", sort, n.counts[sort])
		n.symbols[sort+value] = s
	}
	return s
}

var (
	times = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	uids  = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	// current is the newest revision in the refusal of one from the future.
	current = regexp.MustCompile(`current: \d+`)
	// quoted is a revision in a text: in a document within a message, or in YAML.
	quoted  = regexp.MustCompile(`(resourceVersion\\?"?: ?\\?"|in record \(|ResourceVersion in the precondition \()\d+`)
	address = regexp.MustCompile(`\b10\.96\.\d+\.\d+\b`)
	// generated is the end of a name that the server made up: the courses' stems end in "gen-".
	generated = regexp.MustCompile(`\b([A-Za-z0-9-]*(?:gen-|Bad_))[a-z0-9]{5}\b`)
	// listed is a node port in a row of a table.
	listed = regexp.MustCompile(`:(3[0-2]\d\d\d)/(TCP|UDP|SCTP)\b`)
	ages   = regexp.MustCompile(`^(\d+[smhd])+$`)
	ports  = regexp.MustCompile(`^3[0-2]\d\d\d$`)
)

// text normalises a string.
func (n *normal) text(s string) string {
	s = times.ReplaceAllStringFunc(s, func(v string) string {
		if strings.Contains(v, ".") {
			return "<microtime>"
		}
		return "<time>"
	})
	s = uids.ReplaceAllStringFunc(s, func(v string) string { return n.symbol("uid", v) })
	s = current.ReplaceAllString(s, "current: <revision>")
	s = quoted.ReplaceAllString(s, "$1<revision>")
	s = listed.ReplaceAllStringFunc(s, func(v string) string {
		m := listed.FindStringSubmatch(v)
		return ":" + n.symbol("port", m[1]) + "/" + m[2]
	})
	s = address.ReplaceAllStringFunc(s, func(v string) string { return n.symbol("address", v) })
	return generated.ReplaceAllStringFunc(s, func(v string) string {
		return n.symbol("name "+v[:len(v)-5], v)
	})
}

// value normalises a part of a document. list tells that it belongs to a list's own metadata.
func (n *normal) value(key string, v any, list bool) any {
	switch x := v.(type) {
	case map[string]any:
		return n.object(key, x)
	case []any:
		switch key {
		case "managedFields":
			x = sorted(x, "operation", "manager", "subresource", "apiVersion")
		case "causes": // kube-apiserver tells the conflicts of several managers in the order of a map
			if conflicts(x) {
				x = sorted(x, "field", "message")
			}
		}
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = n.value("", e, false)
		}
		return out
	case string:
		switch {
		case key == "resourceVersion" && list && x != "":
			return "<revision of the list>"
		case key == "resourceVersion" && x != "" && x != "0":
			return n.symbol("revision", x)
		case key == "continue" && x != "":
			return "<token>"
		case ages.MatchString(x):
			return "<age>"
		}
		return n.text(x)
	case float64:
		if (key == "nodePort" || key == "healthCheckNodePort") && ports.MatchString(fmt.Sprint(x)) {
			return n.symbol("port", fmt.Sprint(x))
		}
	}
	return v
}

// conflicts tells whether all causes of a refusal are conflicts of managers.
func conflicts(causes []any) bool {
	return !slices.ContainsFunc(causes, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["reason"] != "FieldManagerConflict"
	})
}

// sorted orders documents by some of their fields: managedFields have times, whose seconds the sides need not share.
func sorted(entries []any, by ...string) []any {
	id := func(e any) string {
		m, _ := e.(map[string]any)
		var key []any
		for _, field := range by {
			key = append(key, m[field])
		}
		return fmt.Sprint(key...)
	}
	out := slices.Clone(entries)
	slices.SortStableFunc(out, func(a, b any) int { return strings.Compare(id(a), id(b)) })
	return out
}

func (n *normal) object(key string, x map[string]any) any {
	kind, _ := x["kind"].(string)
	list := strings.HasSuffix(kind, "List") || kind == "Table" || kind == "Status"
	if kind == "Table" {
		plainTable(x)
	}
	out := make(map[string]any, len(x))
	keys := make([]string, 0, len(x))
	for k := range x {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if meta, ok := x[k].(map[string]any); ok && k == "metadata" && list {
			m := map[string]any{}
			for mk, mv := range meta {
				m[mk] = n.value(mk, mv, true)
			}
			out[k] = m
			continue
		}
		out[k] = n.value(k, x[k], false)
	}
	return out
}

// plainTable takes from a table what ours says otherwise on purpose: columns have descriptions of our own, and rows leave managedFields out, which no
// table shows and which are most of the bytes.
func plainTable(table map[string]any) {
	columns, _ := table["columnDefinitions"].([]any)
	for _, c := range columns {
		if m, ok := c.(map[string]any); ok {
			delete(m, "description")
		}
	}
	rows, _ := table["rows"].([]any)
	for _, r := range rows {
		m, _ := r.(map[string]any)
		o, _ := m["object"].(map[string]any)
		if o["kind"] != "PartialObjectMetadata" {
			continue
		}
		if meta, ok := o["metadata"].(map[string]any); ok {
			delete(meta, "managedFields")
		}
	}
}

// bookmark tells an event that comes by the clock: only the one that ends the initial events is compared.
func bookmark(doc any) bool {
	e, _ := doc.(map[string]any)
	if e["type"] != "BOOKMARK" {
		return false
	}
	o, _ := e["object"].(map[string]any)
	m, _ := o["metadata"].(map[string]any)
	a, _ := m["annotations"].(map[string]any)
	return a["k8s.io/initial-events-end"] != "true"
}

// compared are the headers that clients act on.
var compared = []string{"Content-Type", "Retry-After", "Allow", "Location", "Content-Encoding"}

// show writes an answer as text to be compared.
func (n *normal) show(method string, a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", a.code, http.StatusText(a.code))
	for _, h := range compared {
		if v := a.header.Get(h); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	for _, w := range a.header["Warning"] {
		fmt.Fprintf(&b, "Warning: %s\n", n.text(w))
	}
	for _, doc := range a.docs {
		if bookmark(doc) {
			continue
		}
		if e, ok := doc.(map[string]any); ok && e["type"] == "BOOKMARK" {
			// Its revision is that of the whole store.
			if o, ok := e["object"].(map[string]any); ok {
				if m, ok := o["metadata"].(map[string]any); ok {
					delete(m, "resourceVersion")
				}
			}
		}
		j, err := json.MarshalIndent(n.value("", doc, false), "", "  ")
		if err != nil {
			return err.Error()
		}
		b.Write(j)
		b.WriteByte('\n')
	}
	if method != http.MethodHead && a.text != "" {
		b.WriteString(n.text(a.text))
	}
	return b.String()
}
