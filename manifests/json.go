package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
)

// parseJSON reads the one value of a JSON file.
func parseJSON(file string, content []byte) ([]*node, []Finding) {
	p := jsonParser{file: file, content: content, dec: json.NewDecoder(bytes.NewReader(content))}
	p.dec.UseNumber()
	for i, c := range content {
		if c == '\n' {
			p.breaks = append(p.breaks, i)
		}
	}
	root, err := p.value(0)
	switch {
	case errors.Is(err, io.EOF) && len(bytes.TrimSpace(content)) == 0:
		return nil, nil
	case err != nil:
		return nil, append(p.findings, p.syntax(err))
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		p.findings = append(p.findings, Finding{p.next(), "JSON: there is more behind the first value; put each object into a file of its own, or into a List"})
	}
	return []*node{root}, p.findings
}

type jsonParser struct {
	file     string
	content  []byte
	breaks   []int
	dec      *json.Decoder
	nodes    int
	findings []Finding
}

// place is the position of a byte of the file.
func (p *jsonParser) place(offset int) Position {
	line := sort.SearchInts(p.breaks, offset)
	start := 0
	if line > 0 {
		start = p.breaks[line-1] + 1
	}
	return Position{File: p.file, Line: line + 1, Col: offset - start + 1}
}

// next is the position of the token that comes next.
func (p *jsonParser) next() Position {
	at := int(p.dec.InputOffset())
	for at < len(p.content) && bytes.IndexByte([]byte(" \t\r\n,:"), p.content[at]) >= 0 {
		at++
	}
	return p.place(min(at, max(0, len(p.content)-1)))
}

func (p *jsonParser) syntax(err error) Finding {
	var s *json.SyntaxError
	pos := p.next()
	// An error of the token itself carries the offset before it, one of a value's inside that behind the bad byte.
	if errors.As(err, &s) && s.Offset > p.dec.InputOffset() {
		pos = p.place(int(s.Offset) - 1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends too early")
	}
	return Finding{pos, "JSON: " + err.Error()}
}

func (p *jsonParser) value(depth int) (*node, error) {
	n := &node{pos: p.next()}
	if p.nodes++; p.nodes > maxNodes || depth > maxDepth {
		return nil, fmt.Errorf("the file is too large: more than %d values or nested deeper than %d", maxNodes, maxDepth)
	}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return n, p.object(n, depth)
		}
		return n, p.list(n, depth)
	case json.Number:
		n.source = string(v)
		if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			n.set(i)
		} else if f, err := v.Float64(); err == nil {
			n.set(f)
		} else {
			return nil, fmt.Errorf("%s is too large a number", clip(string(v)))
		}
	default:
		n.source = fmt.Sprint(v)
		n.set(v)
	}
	return n, nil
}

func (p *jsonParser) object(n *node, depth int) error {
	n.shape = mapping
	seen := map[string]Position{}
	for p.dec.More() {
		at := p.next()
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, ok := tok.(string)
		if !ok {
			return fmt.Errorf("a key must be a string")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if first, twice := seen[name]; twice {
			p.findings = append(p.findings, Finding{at, fmt.Sprintf("key %s stands twice in this map; first at line %d", quote(name), first.Line)})
			continue
		}
		seen[name] = at
		n.keys = append(n.keys, key{name, at})
		n.items = append(n.items, v)
	}
	_, err := p.dec.Token()
	return err
}

func (p *jsonParser) list(n *node, depth int) error {
	n.shape = sequence
	for p.dec.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
	}
	_, err := p.dec.Token()
	return err
}
