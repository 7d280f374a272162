package api

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/object"
)

// encoder makes the bytes of objects and keeps them for the next reader: JSON, which takes long to make, and in recent, which is small, the frames
// of the last events, which many watchers want at once, and protobuf, of which lists use what is stored.
type encoder struct{ cache, recent *byteCache }

// recentBytes bounds what is kept of events and of protobuf.
const recentBytes = 16 << 20

// protoMarshaler is what every kind with a protobuf form has.
type protoMarshaler interface{ Marshal() ([]byte, error) }

func hasProto(k object.Kind) bool {
	_, ok := k.New().(protoMarshaler)
	return ok
}

// variant tells whether the bytes of an object may be kept, and as what.
type variant int

const (
	stored   variant = iota // an object as it is stored
	fresh                   // one that was written just now, which seldom anybody asks for again in the same form
	gone                    // an object as its deletion shows it
	fleeting                // an object that is not stored: a dry run's result
)

// bytes returns an object in one form and in the version that k is. The bytes are shared.
func (e encoder) bytes(o object.Object, kind object.Kind, form encoding, v variant) ([]byte, error) {
	rv := o.GetResourceVersion()
	k := cacheKey{rev: rv, form: form, gone: v == gone}
	if !kind.IsStored() {
		k.as = kind.GVK.GroupVersion().String()
	}
	keep, cache := kept(o, kind, v), e.cache
	if form == encodeProto || v == fresh {
		cache = e.recent
	}
	if keep {
		if b, ok := cache.get(k); ok {
			return b, nil
		}
	}
	as, err := admission.Convert(o, kind)
	if err != nil {
		return nil, err
	}
	b, err := encodeAs(as, form)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", object.KeyOf(o), err)
	}
	if keep {
		cache.put(k, b)
	}
	return b, nil
}

// kept tells whether the bytes of an object may be kept.
func kept(o object.Object, kind object.Kind, v variant) bool {
	return v != fleeting && o.GetResourceVersion() != "" && !kind.Uncached
}

// frame returns a whole object's event as a stream of JSON or protobuf carries it. The bytes are shared.
func (e encoder) frame(event apiwatch.EventType, o object.Object, kind object.Kind, media string, v variant) ([]byte, error) {
	k := cacheKey{rev: o.GetResourceVersion(), form: encodeJSON, gone: v == gone, event: event}
	if media == mediaProto {
		k.form = encodeProto
	}
	if !kind.IsStored() {
		k.as = kind.GVK.GroupVersion().String()
	}
	keep := kept(o, kind, v)
	if keep {
		if b, ok := e.recent.get(k); ok {
			return b, nil
		}
	}
	b, err := e.bytes(o, kind, k.form, v)
	if err != nil {
		return nil, err
	}
	if k.form == encodeProto {
		b = appendFrame(nil, string(event), kind.GVK, b)
	} else {
		b = appendLine(nil, event, b)
	}
	if keep {
		e.recent.put(k, b)
	}
	return b, nil
}

func encodeAs(o object.Object, form encoding) ([]byte, error) {
	switch form {
	case encodeProto:
		m, ok := o.(protoMarshaler)
		if !ok {
			return nil, fmt.Errorf("%T has no protobuf form", o)
		}
		return m.Marshal()
	case encodePartial:
		p := partial(o, "v1")
		p.ManagedFields = nil
		return json.Marshal(p)
	}
	return object.EncodeJSON(o)
}

// partial is an object's metadata alone. It shares memory with o.
func partial(o object.Object, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "PartialObjectMetadata"},
		ObjectMeta: metaOf(o),
	}
}

// metaOf reads an object's metadata, whatever its kind.
func metaOf(o object.Object) metav1.ObjectMeta {
	if a, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	return metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}
}

// body encodes one object as agreed, in full.
func (e encoder) body(o object.Object, k object.Kind, a accepted, v variant) ([]byte, error) {
	switch {
	case a.shape == shapePartial && a.media == mediaProto:
		raw, err := partial(o, a.version).Marshal()
		if err != nil {
			return nil, err
		}
		return envelope(schema.GroupVersionKind{Group: "meta.k8s.io", Version: a.version, Kind: "PartialObjectMetadata"}, raw), nil
	case a.shape == shapePartial:
		b, err := json.Marshal(partial(o, a.version))
		if err != nil {
			return nil, err
		}
		return asText(b, a)
	case a.media == mediaProto:
		raw, err := e.bytes(o, k, encodeProto, v)
		if err != nil {
			return nil, err
		}
		return envelope(k.GVK, raw), nil
	}
	b, err := e.bytes(o, k, encodeJSON, v)
	if err != nil {
		return nil, err
	}
	return asText(b, a)
}

func envelope(gvk schema.GroupVersionKind, raw []byte) []byte {
	return append(envelopeHead(gvk, len(raw)), raw...)
}

// asText turns compact JSON into what was agreed: JSON, indented JSON or YAML. The result may share memory with b.
func asText(b []byte, a accepted) ([]byte, error) {
	switch {
	case a.media == mediaYAML:
		return yaml.JSONToYAML(b)
	case a.pretty:
		var v json.RawMessage = b
		return json.MarshalIndent(v, "", "  ")
	}
	return b, nil
}
