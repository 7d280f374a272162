package object

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shape tells how the fields of a Go type merge, read from the tags that Kubernetes' types carry. It plays the part of the
// OpenAPI schema in server-side apply: which lists are keyed, and by what.
type shape struct {
	kind shapeKind
	// fields are a structure's, elem that of a map or a list.
	fields map[string]*shape
	elem   *shape
	// keys identify the items of a keyed list, sorted as FieldsV1 wants them; the first is what people call the item by; defaults fills in those that an item leaves out.
	keys     []string
	defaults map[string]any
	// retainKeys: of several alternatives only those that are set now may stay (volume sources, strategies).
	retainKeys bool
	// meta marks ObjectMeta, parts of which always belong to others.
	meta bool
}

type shapeKind int

const (
	atomic shapeKind = iota
	structure
	stringMap
	keyedList
	setList
)

var (
	marshalerType = reflect.TypeFor[json.Marshaler]()
	selectorType  = reflect.TypeFor[metav1.LabelSelector]()
	metaType      = reflect.TypeFor[metav1.ObjectMeta]()
	atomicShape   = &shape{kind: atomic}
	// shapes has the shape of every kind. It is built once and never changed.
	shapes = newShapes()
)

func newShapes() map[string]*shape {
	out := make(map[string]*shape, len(kinds))
	seen := map[reflect.Type]*shape{}
	for _, k := range kinds {
		out[k.Resource] = shapeOf(reflect.TypeOf(k.make()).Elem(), seen)
	}
	return out
}

func shapeOf(t reflect.Type, seen map[reflect.Type]*shape) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == selectorType || t.Implements(marshalerType) || reflect.PointerTo(t).Implements(marshalerType):
		return atomicShape
	case t.Kind() == reflect.Map:
		return &shape{kind: stringMap, elem: shapeOf(t.Elem(), seen)}
	case t.Kind() == reflect.Struct:
		if s, ok := seen[t]; ok {
			return s
		}
		s := &shape{kind: structure, fields: map[string]*shape{}, meta: t == metaType}
		seen[t] = s
		s.addFields(t, seen)
		return s
	}
	return atomicShape
}

func (s *shape) addFields(t reflect.Type, seen map[reflect.Type]*shape) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if f.Anonymous && (name == "" || strings.Contains(opts, "inline")) {
			ft := f.Type
			for ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			s.addFields(ft, seen)
			continue
		}
		if name != "" {
			s.fields[name] = fieldShape(f, seen)
		}
	}
}

func fieldShape(f reflect.StructField, seen map[reflect.Type]*shape) *shape {
	strategy := strings.Split(f.Tag.Get("patchStrategy"), ",")
	if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8 && slices.Contains(strategy, "merge") {
		return listShape(f, slices.Contains(strategy, "retainKeys"), seen)
	}
	s := shapeOf(f.Type, seen)
	if slices.Contains(strategy, "retainKeys") {
		c := *s
		c.retainKeys = true
		return &c
	}
	return s
}

func listShape(f reflect.StructField, retain bool, seen map[reflect.Type]*shape) *shape {
	elem := shapeOf(f.Type.Elem(), seen)
	key := f.Tag.Get("patchMergeKey")
	if key == "" || elem.kind != structure {
		return &shape{kind: setList}
	}
	s := &shape{kind: keyedList, elem: elem, keys: []string{key}}
	if retain {
		c := *elem
		c.retainKeys = true
		s.elem = &c
	}
	// The second keys of server-side apply's schema (listMapKey), which the patch tags do not tell.
	switch key {
	case "containerPort", "port":
		s.keys, s.defaults = []string{key, "protocol"}, map[string]any{"protocol": "TCP"}
	case "topologyKey":
		s.keys = []string{key, "whenUnsatisfiable"}
	}
	return s
}

// key is an item's path element, `k:{"name":"web"}`, and its short name for people; false if the item lacks a key.
func (s *shape) key(item any) (element, short string, ok bool) {
	m, isMap := item.(map[string]any)
	if !isMap {
		return "", "", false
	}
	b := []byte("k:{")
	for i, k := range s.keys {
		v := m[k]
		if v == nil {
			v = s.defaults[k]
		}
		if v == nil {
			return "", "", false
		}
		text := scalar(v)
		if i == 0 || v != s.defaults[k] {
			if short != "" {
				short += "/"
			}
			short += text
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '"'), k...)
		b = append(b, '"', ':')
		b = append(b, scalarJSON(v)...)
	}
	return string(append(b, '}')), short, true
}

// index returns the items of a keyed list by path element; false if the list has an item without a key or two with the same,
// which makes it one atomic value.
func (s *shape) index(list []any) (elements, shorts []string, ok bool) {
	seen := make(map[string]bool, len(list))
	for _, item := range list {
		e, short, has := s.key(item)
		if !has || seen[e] {
			return nil, nil, false
		}
		seen[e] = true
		elements, shorts = append(elements, e), append(shorts, short)
	}
	return elements, shorts, true
}

func scalar(v any) string {
	if t, ok := v.(string); ok {
		return t
	}
	return scalarJSON(v)
}

func scalarJSON(v any) string {
	if n, ok := v.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
