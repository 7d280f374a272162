package manifests

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml2 "go.yaml.in/yaml/v2"
	yaml "go.yaml.in/yaml/v3"
)

// The bounds of one file. A manifest is a few kilobytes; what is far beyond is a mistake or an attack.
const (
	maxFile  = 4 << 20
	maxNodes = 400_000
	maxDepth = 100
)

// document is one YAML document with the number of lines before it.
type document struct {
	content []byte
	before  int
}

// splitDocuments cuts a stream at its document markers. A line that begins with "---" always ends a document, also inside a
// block or a quoted scalar (YAML 1.2, 9.1.2), so that a mistake in one document does not hide those in the next.
func splitDocuments(content []byte) []document {
	var docs []document
	cur := document{}
	start, line := 0, 0
	for at := 0; at < len(content); {
		end := len(content)
		if i := bytes.IndexByte(content[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if isMarker(content[at:end]) && at > start {
			cur.content = content[start:at]
			docs = append(docs, cur)
			start, cur = at, document{before: line}
		}
		at = end
		line++
	}
	cur.content = content[start:]
	return append(docs, cur)
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(bytes.TrimRight(rest, "\r\n")) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r')
}

// parseYAML reads all documents of a file. Empty documents are left out. Findings are mistakes of syntax; other documents of
// the file are returned all the same.
func parseYAML(file string, content []byte) ([]*node, []Finding) {
	var roots []*node
	b := builder{file: file, ascii: isASCII(content)}
	for _, d := range splitDocuments(content) {
		var doc yaml.Node
		if err := yaml.Unmarshal(d.content, &doc); err != nil {
			b.syntax(d, err)
			continue
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
			continue
		}
		b.doc = d
		if !b.ascii {
			b.lines = bytes.Split(d.content, []byte("\n"))
		}
		b.open = nil
		if root := b.build(doc.Content[0], 0); root.shape != null && !b.spent() {
			roots = append(roots, root)
		}
	}
	return roots, b.findings
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// builder turns YAML nodes into ours: aliases and merge keys are resolved within a budget, scalars are typed, keys that stand
// twice are found.
type builder struct {
	file     string
	ascii    bool
	doc      document
	lines    [][]byte
	nodes    int
	open     map[*yaml.Node]bool
	findings []Finding
	over     bool
}

func (b *builder) spent() bool { return b.over }

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

var anchorName = regexp.MustCompile(`unknown anchor '.*' referenced`)

// syntax reports what the YAML parser said, at the first character of the line that culprit finds.
func (b *builder) syntax(d document, err error) {
	msg := err.Error()
	line := 1
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		msg = msg[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	// What looks like an anchor's name may be a password without quotes that begins with a star.
	msg = anchorName.ReplaceAllString(msg, "unknown anchor referenced")
	lines := bytes.SplitAfter(d.content, []byte("\n"))
	line = culprit(lines, max(1, min(line, len(lines))))
	col := 1 + len(lines[line-1]) - len(bytes.TrimLeft(lines[line-1], " \t"))
	b.findings = append(b.findings, Finding{Position{b.file, d.before + line, col}, "YAML: " + msg})
}

// culprit finds the line behind the last one up to which the document can be read. The parser itself names the line on which
// the thing around the mistake begins, which may be far above. The search is bounded, by work and by what is worth trying.
func culprit(lines [][]byte, said int) int {
	prefix := bytes.Join(lines[:said-1], nil)
	good, budget := said-1, 1<<20
	for n := said; n <= len(lines) && n-good < 100 && budget > 0; n++ {
		prefix = append(prefix, lines[n-1]...)
		budget -= len(prefix)
		var doc yaml.Node
		if yaml.Unmarshal(prefix, &doc) == nil {
			good = n
		}
	}
	if good >= len(lines) {
		return said
	}
	return good + 1
}

func (b *builder) pos(n *yaml.Node) Position {
	col := n.Column
	if !b.ascii && n.Line >= 1 && n.Line <= len(b.lines) {
		col = byteColumn(b.lines[n.Line-1], col)
	}
	return Position{File: b.file, Line: b.doc.before + n.Line, Col: col}
}

// byteColumn turns a column that counts characters into one that counts bytes.
func byteColumn(line []byte, col int) int {
	at := 0
	for range col - 1 {
		if at >= len(line) {
			break
		}
		_, n := utf8.DecodeRune(line[at:])
		at += n
	}
	return at + 1
}

func (b *builder) report(pos Position, format string, args ...any) {
	b.findings = append(b.findings, Finding{pos, fmt.Sprintf(format, args...)})
}

func (b *builder) build(n *yaml.Node, depth int) *node {
	pos := b.pos(n)
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		if !b.over {
			b.over = true
			b.report(pos, "the file is too large: more than %d values (aliases expanded) or nested deeper than %d", maxNodes, maxDepth)
		}
		return &node{pos: pos}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return b.mapping(n, pos, depth)
	case yaml.SequenceNode:
		out := &node{shape: sequence, pos: pos, items: make([]*node, 0, len(n.Content))}
		for _, c := range n.Content {
			if b.over {
				break
			}
			out.items = append(out.items, b.build(c, depth+1))
		}
		return out
	case yaml.AliasNode:
		return b.alias(n, pos, depth)
	case yaml.ScalarNode:
		return b.scalar(n, pos)
	}
	return &node{pos: pos}
}

func (b *builder) alias(n *yaml.Node, pos Position, depth int) *node {
	if b.open[n.Alias] {
		b.report(pos, "alias *%s stands inside what it names", n.Value)
		return &node{pos: pos}
	}
	if b.open == nil {
		b.open = map[*yaml.Node]bool{}
	}
	b.open[n.Alias] = true
	defer delete(b.open, n.Alias)
	return b.build(n.Alias, depth+1)
}

func (b *builder) mapping(n *yaml.Node, pos Position, depth int) *node {
	out := &node{shape: mapping, pos: pos, keys: make([]key, 0, len(n.Content)/2), items: make([]*node, 0, len(n.Content)/2)}
	seen := make(map[string]Position, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !b.over; i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style == 0 {
			merges = append(merges, v)
			continue
		}
		name, ok := b.key(k)
		if !ok {
			continue
		}
		at := b.pos(k)
		if first, twice := seen[name]; twice {
			b.report(at, "key %s stands twice in this map; first at line %d", quote(name), first.Line)
			continue
		}
		seen[name] = at
		out.keys = append(out.keys, key{name, at})
		out.items = append(out.items, b.build(v, depth+1))
	}
	for _, m := range merges {
		b.merge(out, m, seen, depth)
	}
	return out
}

// merge adds what a merge key ("<<") brings, behind what the map sets itself.
func (b *builder) merge(out *node, m *yaml.Node, seen map[string]Position, depth int) {
	from := b.build(m, depth+1)
	sources := []*node{from}
	if from.shape == sequence {
		sources = from.items
	}
	for _, s := range sources {
		if s.shape != mapping {
			b.report(from.pos, "a merge key (<<) wants a map or a list of maps, got %s", s.shape)
			continue
		}
		for i, k := range s.keys {
			if _, have := seen[k.name]; !have {
				seen[k.name] = k.pos
				out.keys = append(out.keys, k)
				out.items = append(out.items, s.items[i])
			}
		}
	}
}

// key reads a map's key. Keys that are no strings are written as sigs.k8s.io/yaml writes them.
func (b *builder) key(k *yaml.Node) (string, bool) {
	for k.Kind == yaml.AliasNode {
		k = k.Alias
	}
	if k.Kind != yaml.ScalarNode {
		b.report(b.pos(k), "a key must be a string")
		return "", false
	}
	n := b.scalar(k, b.pos(k))
	switch v := n.value.(type) {
	case string:
		return v, true
	case bool, int64, uint64:
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 32), true
	}
	b.report(n.pos, "a key must be a string")
	return "", false
}

func (b *builder) scalar(n *yaml.Node, pos Position) *node {
	out := &node{pos: pos, source: n.Value}
	switch {
	case n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str":
		var v any
		if err := yaml2.Unmarshal([]byte(n.Tag+" "+strconv.Quote(n.Value)), &v); err != nil || !strings.HasPrefix(n.Tag, "!!") {
			if strings.HasPrefix(n.Tag, "!!") {
				b.report(pos, "tag %s does not fit the value", clip(n.Tag))
			} else {
				// It is most likely no tag, but a string, perhaps a password.
				b.report(pos, "the tag is not known; put a string that begins with ! in quotes")
			}
			return out
		}
		out.set(v)
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0:
		out.shape, out.value = text, n.Value
	default:
		out.set(resolve(n.Value))
	}
	if f, ok := out.value.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
		b.report(pos, "infinite and undefined numbers cannot be written in JSON")
		return &node{pos: pos}
	}
	return out
}

// set types a scalar by its Go value.
func (n *node) set(v any) {
	switch v := v.(type) {
	case nil:
		n.shape = null
	case bool:
		n.shape, n.value = boolean, v
	case int:
		n.shape, n.value = integer, int64(v)
	case int64:
		n.shape, n.value = integer, v
	case uint64:
		n.shape, n.value = integer, v
	case float64:
		n.shape, n.value = float, v
	case string:
		n.shape, n.value = text, v
	default:
		n.shape, n.value = text, fmt.Sprint(v)
	}
}

// resolve types a plain scalar as sigs.k8s.io/yaml does (YAML 1.1: yes and on are booleans). The rules for numbers are asked of
// the very parser that it uses, except where the characters show that the scalar is none.
func resolve(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false
	}
	c := s[0]
	if c >= '1' && c <= '9' && len(s) < 18 && strings.Trim(s, "0123456789") == "" {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	}
	if (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' || strings.Trim(s, numeric) != "" {
		return s
	}
	var v any
	if err := yaml2.Unmarshal([]byte(s), &v); err != nil {
		return s
	}
	switch v.(type) {
	case nil, bool, int, int64, uint64, float64:
		return v
	}
	return s
}

// numeric are the characters of which numbers are written, hexadecimal ones and .inf and .nan included.
const numeric = "0123456789+-._:xXoOabcdefABCDEFinIN"
