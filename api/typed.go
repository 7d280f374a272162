package api

import (
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// typeConverter gives objects their schema for the field managers. Objects that are Go values and may hold duplicates are those that are stored or
// about to be: they came through a strict decoder, so they are not walked once more to see whether they conform; what does not is an error of the
// comparison that follows. They also stay what they are: made anew from a tree of maps they would be at each look at their version. What a client
// applies is judged as always. It is safe for use by several goroutines.
type typeConverter struct {
	managedfields.TypeConverter

	mu    sync.RWMutex
	known map[schema.GroupVersionKind]schemaOf
}

// schemaOf is the schema of a kind.
type schemaOf struct {
	all  *smdschema.Schema
	root smdschema.TypeRef
}

// typedObject is the value of an object that knows the object.
type typedObject struct {
	value.Value
	object runtime.Object
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *typeConverter) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if _, raw := o.(*unstructured.Unstructured); raw || len(opts) != 1 || opts[0] != typed.AllowDuplicates {
		return c.TypeConverter.ObjectToTyped(o, opts...)
	}
	s, err := c.schemaOf(o)
	if err != nil {
		return nil, err
	}
	v, err := value.NewValueReflect(o)
	if err != nil {
		return nil, err
	}
	//nolint:staticcheck // deprecated because validation is said to be cheap: it was a tenth of a server-side apply
	return typed.AsTypedUnvalidated(typedObject{v, o}, s.all, s.root), nil
}

// schemaOf finds the schema of an object's kind with the first object of it.
func (c *typeConverter) schemaOf(o runtime.Object) (schemaOf, error) {
	gvk := o.GetObjectKind().GroupVersionKind()
	c.mu.RLock()
	s, ok := c.known[gvk]
	c.mu.RUnlock()
	if ok {
		return s, nil
	}
	v, err := c.TypeConverter.ObjectToTyped(o, typed.AllowDuplicates)
	if err != nil {
		return s, err
	}
	s = schemaOf{v.Schema(), v.TypeRef()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[gvk] = s
	return s, nil
}

// TypedToObject implements managedfields.TypeConverter. The object may be the one that the value was made of.
func (c *typeConverter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	if t, ok := v.AsValue().(typedObject); ok {
		return t.object, nil
	}
	return c.TypeConverter.TypedToObject(v)
}
