package manifests

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strings"
	"sync"
)

// types remembers the JSON fields of Go types. The zero value is ready; it is safe for concurrent use.
type types struct{ m sync.Map }

// fields of a struct by JSON name.
type fields map[string]goField

type goField struct {
	index []int
	typ   reflect.Type
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// fieldsOf lists a struct's JSON fields. Embedded structs without a name of their own are part of the struct: k8s.io/api
// writes them as `json:",inline"` and, from v0.37 on, as `json:""`.
func (t *types) fieldsOf(s reflect.Type) fields {
	if f, ok := t.m.Load(s); ok {
		return f.(fields)
	}
	out := fields{}
	for i := range s.NumField() {
		f := s.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			for n, sub := range t.fieldsOf(f.Type) {
				out[n] = goField{append([]int{i}, sub.index...), sub.typ}
			}
		case name == "":
			out[f.Name] = goField{[]int{i}, f.Type}
		default:
			out[name] = goField{[]int{i}, f.Type}
		}
	}
	t.m.Store(s, out)
	return out
}

// fault is a finding with the path of its field.
type fault struct {
	path string
	pos  Position
	msg  string
	// valueless tells that msg holds no value of the file, whatever path is.
	valueless bool
}

// decoder fills a Go value from nodes and notes every mistake on the way: it does not stop at the first.
type decoder struct {
	types  *types
	faults []fault
}

func (d *decoder) fault(path string, pos Position, format string, args ...any) {
	d.faults = append(d.faults, fault{path: path, pos: pos, msg: fmt.Sprintf(format, args...)})
}

// mismatch reports a value of a wrong type.
func (d *decoder) mismatch(n *node, path, want string) {
	hint := ""
	if want == "a string" && n.shape != mapping && n.shape != sequence && n.shape != null {
		hint = "; put it in quotes"
	}
	d.fault(path, n.pos, "%s: want %s, got %s%s", path, want, n.describe(), hint)
}

// decode stores n in v. A null leaves v as it is.
func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.shape == null {
		return
	}
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		d.decode(n, p.Elem(), path)
		v.Set(p)
		return
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		d.custom(n, v, path)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapOf(n, v, path)
	case reflect.Slice:
		d.slice(n, v, path)
	case reflect.Interface:
		var out any
		if err := json.Unmarshal(n.appendJSON(nil), &out); err == nil && out != nil {
			v.Set(reflect.ValueOf(out))
		}
	default:
		d.scalar(n, v, path)
	}
}

// custom decodes types that read JSON themselves: quantities, times, int-or-string. Their own words are the message.
func (d *decoder) custom(n *node, v reflect.Value, path string) {
	name := v.Type().Name()
	wants, known := map[string][]shape{
		"Quantity": {text, integer, float}, "IntOrString": {text, integer}, "Time": {text}, "MicroTime": {text}, "Duration": {text},
	}[name]
	if known {
		fits := false
		for _, s := range wants {
			fits = fits || s == n.shape
		}
		if !fits {
			d.mismatch(n, path, map[string]string{"Quantity": "a quantity such as 100m or 64Mi", "IntOrString": "a whole number or a string"}[name]+
				map[bool]string{true: "a string"}[strings.HasSuffix(name, "Time") || name == "Duration"])
			return
		}
	}
	if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(n.appendJSON(nil)); err != nil {
		d.fault(path, n.pos, "%s: %s: %s", path, n.describe(), strings.TrimPrefix(err.Error(), "json: "))
	}
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if n.shape != mapping {
		d.mismatch(n, path, "a map")
		return
	}
	known := d.types.fieldsOf(v.Type())
	for i, k := range n.keys {
		p := joinField(path, k.name)
		f, ok := known[k.name]
		if !ok {
			d.fault(p, k.pos, "unknown field %s%s%s", quote(k.name), within(path), suggest(k.name, known))
			continue
		}
		d.decode(n.items[i], v.FieldByIndex(f.index), p)
	}
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

func (d *decoder) mapOf(n *node, v reflect.Value, path string) {
	if n.shape != mapping {
		d.mismatch(n, path, "a map")
		return
	}
	t := v.Type()
	m := reflect.MakeMapWithSize(t, len(n.keys))
	for i, k := range n.keys {
		p := joinField(path, k.name)
		if n.items[i].shape == null && t.Elem().Kind() == reflect.String {
			d.fault(p, n.items[i].pos, "%s: want a string, got nothing; write \"\" for an empty one", p)
			continue
		}
		e := reflect.New(t.Elem()).Elem()
		d.decode(n.items[i], e, p)
		m.SetMapIndex(reflect.ValueOf(k.name).Convert(t.Key()), e)
	}
	v.Set(m)
}

func (d *decoder) slice(n *node, v reflect.Value, path string) {
	t := v.Type()
	if t.Elem().Kind() == reflect.Uint8 {
		if n.shape != text {
			d.mismatch(n, path, "a string in base64")
			return
		}
		raw, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(n.str()))
		if err != nil {
			d.fault(path, n.pos, "%s: the value is no base64 (%v); plain text goes into stringData", path, err)
			return
		}
		v.SetBytes(raw)
		return
	}
	if n.shape != sequence {
		d.mismatch(n, path, "a list")
		return
	}
	s := reflect.MakeSlice(t, len(n.items), len(n.items))
	for i, item := range n.items {
		p := joinIndex(path, i)
		if item.shape == null {
			d.fault(p, item.pos, "%s: the item is empty", p)
			continue
		}
		d.decode(item, s.Index(i), p)
	}
	v.Set(s)
}

func (d *decoder) scalar(n *node, v reflect.Value, path string) {
	switch k := v.Kind(); k {
	case reflect.String:
		if n.shape != text {
			d.mismatch(n, path, "a string")
			return
		}
		v.SetString(n.str())
	case reflect.Bool:
		b, ok := n.value.(bool)
		if !ok {
			d.mismatch(n, path, "true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := n.value.(int64)
		if f, isFloat := n.value.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			i, ok = int64(f), true
		}
		if !ok {
			d.mismatch(n, path, "a whole number")
			return
		}
		if v.OverflowInt(i) {
			d.fault(path, n.pos, "%s: %d is out of range: the field holds %d bits", path, i, v.Type().Bits())
			return
		}
		v.SetInt(i)
	case reflect.Float32, reflect.Float64:
		switch x := n.value.(type) {
		case float64:
			v.SetFloat(x)
		case int64:
			v.SetFloat(float64(x))
		default:
			d.mismatch(n, path, "a number")
		}
	default:
		d.fault(path, n.pos, "%s: fields of type %s cannot be set by a manifest", path, v.Type())
	}
}

// suggest names the known field that is nearest to a wrong one.
func suggest(name string, known fields) string {
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
	}
	if best := nearest(name, names); best != "" {
		return "; did you mean " + quote(best) + "?"
	}
	return ""
}

// nearest returns the word with the smallest edit distance, if that is small.
func nearest(name string, words []string) string {
	sort.Strings(words)
	best, limit := "", max(1, min(len(name), 12)/3)+1
	for _, w := range words {
		if d := distance(strings.ToLower(name), strings.ToLower(w), limit); d < limit {
			best, limit = w, d
		}
	}
	return best
}

// distance is the Levenshtein distance, or limit if it is not smaller.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return min(row[len(b)], limit)
}

// positions collects the position of every field below n: of scalars and list items the value's own, of maps and lists that of
// their key, which is where a person looks for them.
func positions(n *node) Fields {
	f := Fields{at: map[string]Position{"": n.pos}}
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		for i, item := range n.items {
			var p string
			at := item.pos
			if n.shape == mapping {
				p = joinField(path, n.keys[i].name)
				if item.shape == mapping || item.shape == sequence || item.shape == null {
					at = n.keys[i].pos
				}
			} else {
				p = joinIndex(path, i)
			}
			f.at[p] = at
			walk(item, p)
		}
	}
	walk(n, "")
	return f
}
