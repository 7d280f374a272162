package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/table"
	"reconcile/object"
)

// table encodes objects as a meta.k8s.io Table, in full, as parts to be sent one after another. The parts are shared bytes.
func (s *Server) table(k object.Kind, a accepted, items []object.Object, m listMeta, r *http.Request) ([][]byte, error) {
	parts, err := s.tableRows(k, a, items, m, r, true, stored)
	if err != nil || a.media == mediaJSON && !a.pretty {
		return parts, err
	}
	b, err := asText(bytes.Join(parts, nil), a)
	return [][]byte{b}, err
}

// tableRows encodes objects as a Table in compact JSON, with its columns if headers is set: a watch sends them with its first event only. The rows are
// put together by hand: nearly all of their bytes are at hand, and json.Marshal would read them again.
func (s *Server) tableRows(k object.Kind, a accepted, items []object.Object, m listMeta, r *http.Request, headers bool, v variant) ([][]byte, error) {
	printer := table.For(k.Resource)
	t := metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + a.version, Kind: "Table"},
		ListMeta: m.meta(),
		Rows:     []metav1.TableRow{},
	}
	if headers {
		t.ColumnDefinitions = printer.Definitions()
	}
	include := r.URL.Query().Get("includeObject")
	switch include {
	case "", "None", "Metadata", "Object":
	default:
		return nil, badRequest("Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", include)
	}
	head, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	const tail = "]}"
	head, ok := bytes.CutSuffix(head, []byte(tail))
	if !ok {
		return nil, fmt.Errorf("the JSON of a Table does not end with its rows")
	}
	parts := append(make([][]byte, 0, 2*len(items)+2), head)
	now := s.cfg.Now()
	var cells []byte
	for i, o := range items {
		from := len(cells)
		if i > 0 {
			cells = append(cells, "},"...)
		}
		cells = append(cells, `{"cells":`...)
		if v == fleeting && o.GetName() == "" {
			// A bookmark has no cells to show, but the client counts them.
			cells, err = appendCells(cells, make([]any, len(printer.Columns)))
		} else {
			cells, err = appendCells(cells, printer.Row(o, now))
		}
		if err != nil {
			return nil, fmt.Errorf("the row of %s: %w", object.KeyOf(o), err)
		}
		cells = append(cells, `,"object":`...)
		raw := []byte("null")
		switch include {
		case "None":
		case "Object":
			raw, err = s.enc.bytes(o, k, encodeJSON, v)
		default:
			raw, err = s.rowMeta(o, k.Stored(), v, a.version)
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, cells[from:len(cells):len(cells)], raw)
	}
	if len(items) > 0 {
		return append(parts, []byte("}"+tail)), nil
	}
	return append(parts, []byte(tail)), nil
}

// appendCells appends a row's cells as JSON, as json.Marshal writes them.
func appendCells(to []byte, cells []any) ([]byte, error) {
	to = append(to, '[')
	for i, c := range cells {
		if i > 0 {
			to = append(to, ',')
		}
		switch c := c.(type) {
		case int64:
			to = strconv.AppendInt(to, c, 10)
			continue
		case string:
			if plainText(c) {
				to = append(append(append(to, '"'), c...), '"')
				continue
			}
		}
		b, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		to = append(to, b...)
	}
	return append(to, ']'), nil
}

// plainText tells whether a string stands in JSON as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// rowMeta is an object's metadata for its row. Managed fields are left out: no table shows them, and they are most of the bytes.
func (s *Server) rowMeta(o object.Object, k object.Kind, v variant, version string) ([]byte, error) {
	b, err := s.enc.bytes(o, k, encodePartial, v)
	if err == nil && version != "v1" {
		b = bytes.Replace(b, []byte(`"apiVersion":"meta.k8s.io/v1"`), []byte(`"apiVersion":"meta.k8s.io/`+version+`"`), 1)
	}
	return b, err
}
