package api

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// created remembers which fields belong to who makes an object of a certain shape: all of them that are set, whatever they are set to. To find them
// takes more time than all else that is done for a creation, and most objects are made by programs that make many of one shape. It keeps about so
// many shapes as shapesKept says, and is safe for use by several goroutines.
type created struct {
	mu       sync.Mutex
	now, old map[string]metav1.ManagedFieldsEntry
}

// shapesKept is how many shapes one generation holds; what was not asked for while one filled is forgotten. shapeMost is the longest key.
const (
	shapesKept = 512
	shapeMost  = 16 << 10
)

// entry is the record of a new object of the shape, with the time given.
func (c *created) entry(key string, at time.Time) (metav1.ManagedFieldsEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.now[key]
	if !ok {
		if e, ok = c.old[key]; ok {
			c.keepLocked(key, e)
		}
	}
	if ok {
		e.FieldsV1 = e.FieldsV1.DeepCopy()
		e.Time = &metav1.Time{Time: at.UTC()}
	}
	return e, ok
}

// keep takes the only record of a new object.
func (c *created) keep(key string, made object.Object) {
	m := made.GetManagedFields()
	if len(m) != 1 || m[0].FieldsV1 == nil {
		return
	}
	e := m[0]
	e.FieldsV1, e.Time = e.FieldsV1.DeepCopy(), nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLocked(key, e)
}

func (c *created) keepLocked(key string, e metav1.ManagedFieldsEntry) {
	if len(c.now) >= shapesKept || c.now == nil {
		c.old, c.now = c.now, map[string]metav1.ManagedFieldsEntry{}
	}
	c.now[key] = e
}

// shapeKey names the shape of an object that somebody makes: two objects of one name have the same fields, though perhaps with other values. False if
// it cannot be told.
func shapeKey(k object.Kind, manager string, o object.Object) (string, bool) {
	b := append(make([]byte, 0, 1024), k.GVK.String()...)
	b = append(append(append(b, 0), manager...), 0)
	b, ok := appendShape(b, reflect.ValueOf(o), false)
	return string(b), ok && len(b) <= shapeMost
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	marshalType = reflect.TypeFor[json.Marshaler]()
)

// appendShape writes which fields of a value are set. Where whole is set it writes their values as well: in lists, of which some values are parts of the
// paths of the fields below them, and in what is a value of its own.
func appendShape(b []byte, v reflect.Value, whole bool) ([]byte, bool) {
	if len(b) > shapeMost {
		return b, false
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0), true
		}
		return appendShape(append(b, 1), v.Elem(), whole)
	case reflect.Struct:
		return appendStruct(b, v, whole)
	case reflect.Map:
		return appendMap(b, v, whole)
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			return append(b, 0), true
		}
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			return appendText(b, v.Bytes(), whole), true
		}
		b = binary.AppendUvarint(append(b, 1), uint64(v.Len()))
		ok := true
		for i := 0; i < v.Len() && ok; i++ {
			b, ok = appendShape(b, v.Index(i), true)
		}
		return b, ok
	case reflect.Interface:
		return append(b, 0), v.IsNil()
	}
	switch {
	case v.Kind() == reflect.String:
		return appendText(b, v.String(), whole), true
	case v.Kind() == reflect.Bool || !whole && (v.CanInt() || v.CanUint()):
		if v.IsZero() {
			return append(b, 0), true
		}
		return append(b, 1), true
	case v.CanInt():
		return binary.AppendVarint(b, v.Int()), true
	case v.CanUint():
		return binary.AppendUvarint(b, v.Uint()), true
	}
	return b, false
}

// appendText writes a text, or only whether there is one.
func appendText[T string | []byte](b []byte, text T, whole bool) []byte {
	switch {
	case whole:
		return append(binary.AppendUvarint(append(b, 2), uint64(len(text))), text...)
	case len(text) == 0:
		return append(b, 2)
	}
	return append(b, 3)
}

func appendStruct(b []byte, v reflect.Value, whole bool) ([]byte, bool) {
	if v.Type() == timeType { // wall and ext, without the place
		return binary.AppendVarint(binary.AppendUvarint(b, v.Field(0).Uint()), v.Field(1).Int()), true
	}
	whole = whole || reflect.PointerTo(v.Type()).Implements(marshalType)
	ok := true
	for i := 0; i < v.NumField() && ok; i++ {
		b, ok = appendShape(b, v.Field(i), whole)
	}
	return b, ok
}

func appendMap(b []byte, v reflect.Value, whole bool) ([]byte, bool) {
	if v.IsNil() {
		return append(b, 0), true
	}
	if v.Type().Key().Kind() != reflect.String {
		return b, false
	}
	fields := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		fields[it.Key().String()] = it.Value()
	}
	b = binary.AppendUvarint(append(b, 1), uint64(v.Len()))
	ok := true
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		if b, ok = appendShape(b, fields[name], whole); !ok {
			break
		}
	}
	return b, ok
}
