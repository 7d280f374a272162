package object

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
)

// Fields is a set of paths of fields in the form of Kubernetes' FieldsV1: a tree whose names are "f:NAME" for a field,
// `k:{"name":"web"}` for an item of a keyed list and "v:VALUE" for a member of a set; "." is the item itself. A leaf is empty.
type Fields map[string]Fields

// ParseFields reads FieldsV1.
func ParseFields(raw []byte) (Fields, error) {
	var f Fields
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("read the fields of managedFields: %w", err)
	}
	return f, nil
}

// Append writes the set as FieldsV1 behind b, with sorted names.
func (f Fields) Append(b []byte) []byte {
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	sort.Strings(names)
	b = append(b, '{')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		q, err := json.Marshal(n)
		if err != nil {
			continue
		}
		b = append(append(b, q...), ':')
		b = f[n].Append(b)
	}
	return append(b, '}')
}

// Owns tells whether the set has the field at path (elements as in Fields), something above it as a whole, or something below it.
func (f Fields) Owns(path []string) bool {
	cur := f
	for _, e := range path {
		next, ok := cur[e]
		if !ok {
			return false
		}
		if len(next) == 0 {
			return true
		}
		cur = next
	}
	return true
}

// ToMap returns an object's JSON as nested maps, with whole numbers as int64. The caller owns it.
func ToMap(o Object) (map[string]any, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("read the fields of %s: %w", KeyOf(o), err)
	}
	return m, nil
}

// MapOf reads a JSON object into nested maps, with whole numbers as int64.
func MapOf(doc []byte) (map[string]any, error) {
	var m map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &m); err != nil {
		return nil, err
	}
	return m, nil
}

// FieldsOf returns the fields that a document of kind k sets: what a source owns that applies it. The object's address and
// its status are never among them.
func FieldsOf(k Kind, doc map[string]any) Fields {
	f := fieldsOf(shapes[k.Resource], doc)
	delete(f, "f:apiVersion")
	delete(f, "f:kind")
	delete(f, "f:status")
	if meta := f["f:metadata"]; meta != nil {
		for _, n := range []string{"f:name", "f:namespace", "f:creationTimestamp", "f:managedFields", "f:uid", "f:resourceVersion", "f:generation"} {
			delete(meta, n)
		}
		if len(meta) == 0 {
			delete(f, "f:metadata")
		}
	}
	return f
}

func fieldsOf(s *shape, doc map[string]any) Fields {
	out := make(Fields, len(doc))
	for name, v := range doc {
		if v != nil {
			out["f:"+name] = valueFields(s.child(name), v)
		}
	}
	return out
}

func (s *shape) child(name string) *shape {
	c := s.elem
	if s.kind == structure {
		c = s.fields[name]
	}
	if c == nil {
		return atomicShape
	}
	return c
}

func valueFields(s *shape, v any) Fields {
	switch v := v.(type) {
	case map[string]any:
		if s.kind == structure || s.kind == stringMap {
			return fieldsOf(s, v)
		}
	case []any:
		out := make(Fields, len(v))
		if s.kind == setList {
			for _, item := range v {
				out["v:"+scalarJSON(item)] = Fields{}
			}
			return out
		}
		if s.kind != keyedList {
			break
		}
		elements, _, ok := s.index(v)
		if !ok {
			break
		}
		for i, e := range elements {
			item := fieldsOf(s.elem, v[i].(map[string]any))
			item["."] = Fields{}
			out[e] = item
		}
		return out
	}
	return Fields{}
}

// Merge applies a document to a live object of kind k, as server-side apply with force would: what doc sets is set, what prev
// holds and doc leaves out is removed, everything else stays. live is changed and returned; parts of doc become parts of it.
func Merge(k Kind, live, doc map[string]any, prev Fields) map[string]any {
	return mergeMap(shapes[k.Resource], live, doc, prev)
}

func mergeMap(s *shape, live, doc map[string]any, prev Fields) map[string]any {
	if live == nil {
		live = make(map[string]any, len(doc))
	}
	if s.retainKeys {
		for name := range live {
			if _, ok := doc[name]; !ok {
				delete(live, name)
			}
		}
	}
	for e, below := range prev {
		name, ok := strings.CutPrefix(e, "f:")
		if !ok || doc[name] != nil {
			continue
		}
		if v, has := live[name]; has {
			if rest := removeOwned(s.child(name), v, below); rest == nil {
				delete(live, name)
			} else {
				live[name] = rest
			}
		}
	}
	for name, v := range doc {
		if v == nil {
			continue
		}
		live[name] = mergeValue(s.child(name), live[name], v, prev["f:"+name])
	}
	return live
}

func mergeValue(s *shape, live, doc any, prev Fields) any {
	switch doc := doc.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if ok && (s.kind == structure || s.kind == stringMap) {
			return mergeMap(s, l, doc, prev)
		}
	case []any:
		l, ok := live.([]any)
		if ok && s.kind == keyedList {
			return mergeKeyed(s, l, doc, prev)
		}
		if ok && s.kind == setList {
			return mergeSet(l, doc, prev)
		}
	}
	return doc
}

func mergeKeyed(s *shape, live, doc []any, prev Fields) any {
	liveKeys, _, ok := s.index(live)
	docKeys, _, ok2 := s.index(doc)
	if !ok || !ok2 {
		return doc
	}
	out := make([]any, 0, len(doc))
	for i, e := range docKeys {
		item := doc[i].(map[string]any)
		if at := slices.Index(liveKeys, e); at >= 0 {
			item = mergeMap(s.elem, live[at].(map[string]any), item, prev[e])
		}
		out = append(out, item)
	}
	for i, e := range liveKeys {
		if _, owned := prev[e]; !owned && !slices.Contains(docKeys, e) {
			out = append(out, live[i])
		}
	}
	return out
}

func mergeSet(live, doc []any, prev Fields) any {
	out := slices.Clone(doc)
	for _, v := range live {
		if _, owned := prev["v:"+scalarJSON(v)]; !owned && !slices.Contains(doc, v) {
			out = append(out, v)
		}
	}
	return out
}

// removeOwned takes what prev holds out of a value that the document no longer has at all, and returns the rest, nil for
// nothing. A structure goes as a whole: what remains of it are defaults, which would not make sense alone.
func removeOwned(s *shape, v any, prev Fields) any {
	switch v := v.(type) {
	case map[string]any:
		if len(prev) == 0 || s.kind != stringMap && !s.meta {
			return nil
		}
		rest := mergeMap(s, v, nil, prev)
		if len(rest) == 0 {
			return nil
		}
		return rest
	case []any:
		var rest any
		switch {
		case len(prev) == 0:
			return nil
		case s.kind == keyedList:
			rest = mergeKeyed(s, v, nil, prev)
		case s.kind == setList:
			rest = mergeSet(v, nil, prev)
		}
		if list, ok := rest.([]any); ok && len(list) > 0 {
			return list
		}
	}
	return nil
}

// FieldDiff is one field that differs between two states of an object.
type FieldDiff struct {
	// Path names the field for people: spec.template.spec.containers[web].image.
	Path string
	// Index is the same with the list's indices, as positions are kept: spec.template.spec.containers[0].image.
	Index string
	// Elements is the path in the form of Fields.
	Elements []string
	// Old and New are JSON values (nil where the field is absent).
	Old, New any
}

// Diff returns the fields in which two states of an object of kind k differ, in the order of paths. Fields that the system
// itself keeps (status, UID, versions, managedFields) are left out. Either map may be nil.
func Diff(k Kind, old, new map[string]any) []FieldDiff {
	d := differ{}
	d.maps(shapes[k.Resource], step{}, visible(old), visible(new))
	return d.out
}

func visible(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for n, v := range m {
		if n != "apiVersion" && n != "kind" && n != "status" {
			out[n] = v
		}
	}
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		return out
	}
	kept := make(map[string]any, len(meta))
	for n, v := range meta {
		switch n {
		case "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds":
			continue
		}
		kept[n] = v
	}
	if a, ok := meta["annotations"].(map[string]any); ok {
		notes := make(map[string]any, len(a))
		for n, v := range a {
			if n != AnnotationSource && n != AnnotationCommit && n != AnnotationFile {
				notes[n] = v
			}
		}
		kept["annotations"] = notes
		if len(notes) == 0 {
			delete(kept, "annotations")
		}
	}
	out["metadata"] = kept
	return out
}

type step struct {
	path, index string
	elements    []string
}

func (p step) field(name string) step {
	label := name
	if strings.ContainsAny(name, ".[]") {
		label = "[" + name + "]"
	} else if p.path != "" {
		label = "." + name
	}
	return step{p.path + label, p.index + label, append(slices.Clip(p.elements), "f:"+name)}
}

func (p step) item(element, short string, i int) step {
	return step{p.path + "[" + short + "]", p.index + "[" + strconv.Itoa(i) + "]", append(slices.Clip(p.elements), element)}
}

type differ struct{ out []FieldDiff }

func (d *differ) add(p step, old, new any) {
	d.out = append(d.out, FieldDiff{Path: p.path, Index: p.index, Elements: p.elements, Old: old, New: new})
}

func (d *differ) maps(s *shape, p step, old, new map[string]any) {
	names := make([]string, 0, len(old)+len(new))
	for n := range old {
		names = append(names, n)
	}
	for n := range new {
		if _, ok := old[n]; !ok {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	for _, n := range names {
		d.value(s.child(n), p.field(n), old[n], new[n])
	}
}

func (d *differ) value(s *shape, p step, old, new any) {
	om, ook := old.(map[string]any)
	nm, nok := new.(map[string]any)
	if (ook || old == nil) && (nok || new == nil) && (ook || nok) && len(om)+len(nm) > 0 {
		d.maps(s, p, om, nm)
		return
	}
	ol, ook := old.([]any)
	nl, nok := new.([]any)
	if s.kind == keyedList && (ook || old == nil) && (nok || new == nil) && d.keyed(s, p, ol, nl) {
		return
	}
	if !equalJSON(old, new) {
		d.add(p, old, new)
	}
}

func (d *differ) keyed(s *shape, p step, old, new []any) bool {
	oe, os, ok := s.index(old)
	ne, ns, ok2 := s.index(new)
	if !ok || !ok2 {
		return false
	}
	for i, e := range oe {
		if at := slices.Index(ne, e); at >= 0 {
			d.value(s.elem, p.item(e, ns[at], at), old[i], new[at])
		} else {
			d.value(s.elem, p.item(e, os[i], i), old[i], nil)
		}
	}
	for i, e := range ne {
		if !slices.Contains(oe, e) {
			d.value(s.elem, p.item(e, ns[i], i), nil, new[i])
		}
	}
	return true
}

func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		bm, ok := b.(map[string]any)
		if !ok || len(a) != len(bm) {
			return false
		}
		for n, v := range a {
			w, has := bm[n]
			if !has || !equalJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		bl, ok := b.([]any)
		if !ok || len(a) != len(bl) {
			return false
		}
		for i := range a {
			if !equalJSON(a[i], bl[i]) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}
