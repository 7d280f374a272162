package manifests

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// shape is what a node is.
type shape uint8

const (
	null shape = iota
	boolean
	integer
	float
	text
	sequence
	mapping
)

// String names the shape as messages do.
func (s shape) String() string {
	return [...]string{"nothing", "a boolean", "a whole number", "a number", "a string", "a list", "a map"}[s]
}

// node is one value of a document, whether it came from YAML, JSON or CUE. Scalars are typed as sigs.k8s.io/yaml types them.
type node struct {
	shape shape
	pos   Position
	// value is the bool, int64, uint64, float64 or string of a scalar; source how a person wrote it, for messages.
	value  any
	source string
	// keys and items: a mapping has as many of both, a sequence has items only.
	keys  []key
	items []*node
}

// key is one key of a mapping.
type key struct {
	name string
	pos  Position
}

// get returns the value of a mapping's key.
func (n *node) get(name string) (*node, bool) {
	if n == nil || n.shape != mapping {
		return nil, false
	}
	for i, k := range n.keys {
		if k.name == name {
			return n.items[i], true
		}
	}
	return nil, false
}

// str is a string scalar's value, or empty.
func (n *node) str() string {
	if n == nil || n.shape != text {
		return ""
	}
	return n.value.(string)
}

// without returns the mapping without some keys; n is not changed.
func (n *node) without(drop func(string) bool) *node {
	out := &node{shape: n.shape, pos: n.pos}
	for i, k := range n.keys {
		if !drop(k.name) {
			out.keys = append(out.keys, k)
			out.items = append(out.items, n.items[i])
		}
	}
	return out
}

// replace returns the mapping with another value behind a key that it has.
func (n *node) replace(name string, v *node) *node {
	out := &node{shape: n.shape, pos: n.pos, keys: n.keys, items: append([]*node(nil), n.items...)}
	for i, k := range n.keys {
		if k.name == name {
			out.items[i] = v
		}
	}
	return out
}

// appendJSON appends the node as JSON, keys in the order of the file.
func (n *node) appendJSON(b []byte) []byte {
	switch n.shape {
	case mapping:
		b = append(b, '{')
		for i, k := range n.keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, k.name)
			b = append(b, ':')
			b = n.items[i].appendJSON(b)
		}
		return append(b, '}')
	case sequence:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case text:
		return appendString(b, n.value.(string))
	}
	out, err := json.Marshal(n.value)
	if err != nil { // an infinite or undefined float: JSON has none
		return append(b, "null"...)
	}
	return append(b, out...)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			out, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, out...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// describe is the node as a message names it: "the string \"three\"", "a list".
func (n *node) describe() string {
	switch n.shape {
	case text:
		return "the string " + quote(n.value.(string))
	case boolean:
		if n.source != fmt.Sprint(n.value) {
			return fmt.Sprintf("the boolean %v (written %s)", n.value, n.source)
		}
		return fmt.Sprintf("the boolean %v", n.value)
	case integer, float:
		return "the number " + clip(n.source)
	}
	return n.shape.String()
}

func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}
