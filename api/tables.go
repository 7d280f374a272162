package api

import (
	"bytes"
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"reconcile/api/table"
	"reconcile/object"
)

// table encodes objects as a meta.k8s.io Table, in full.
func (s *Server) table(k object.Kind, a accepted, items []object.Object, m listMeta, r *http.Request) ([]byte, error) {
	b, err := s.tableRows(k, a, items, m, r, true, stored)
	if err != nil {
		return nil, err
	}
	return asText(b, a)
}

// tableRows encodes objects as a Table, with its columns if headers is set: a watch sends them with its first event only.
func (s *Server) tableRows(k object.Kind, a accepted, items []object.Object, m listMeta, r *http.Request, headers bool, v variant) ([]byte, error) {
	printer := table.For(k.Resource)
	t := metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + a.version, Kind: "Table"},
		ListMeta: m.meta(),
		Rows:     make([]metav1.TableRow, 0, len(items)),
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
	now := s.cfg.Now()
	for _, o := range items {
		row := metav1.TableRow{}
		if v == fleeting && o.GetName() == "" {
			// A bookmark has no cells to show, but the client counts them.
			row.Cells = make([]any, len(printer.Columns))
		} else {
			row.Cells = printer.Row(o, now)
		}
		var err error
		switch include {
		case "None":
		case "Object":
			row.Object.Raw, err = s.enc.bytes(o, k, encodeJSON, v)
		default:
			row.Object, err = s.rowMeta(o, k.Stored(), v)
			if a.version != "v1" {
				row.Object.Raw = bytes.Replace(row.Object.Raw, []byte(`"apiVersion":"meta.k8s.io/v1"`), []byte(`"apiVersion":"meta.k8s.io/`+a.version+`"`), 1)
			}
		}
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return json.Marshal(t)
}

// rowMeta is an object's metadata for its row. Managed fields are left out: no table shows them, and they are most of the bytes.
func (s *Server) rowMeta(o object.Object, k object.Kind, v variant) (runtime.RawExtension, error) {
	b, err := s.enc.bytes(o, k, encodePartial, v)
	return runtime.RawExtension{Raw: b}, err
}
