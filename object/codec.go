package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// magic is what every stored value begins with, as in Kubernetes.
var magic = []byte("k8s\x00")

// ErrUnknownKind is returned when a value or a manifest names a kind that is not in the table.
var ErrUnknownKind = errors.New("unknown kind")

// Encode returns the stored bytes of an object: magic and runtime.Unknown around protobuf, or around JSON for kinds that
// have no protobuf. It does not change o.
func Encode(o Object) ([]byte, error) {
	k, err := KindOfObject(o)
	if err != nil {
		return nil, err
	}
	if !k.IsStored() {
		return nil, fmt.Errorf("encode %s: %s is not the version that is stored: convert it first", KeyOf(o), k.GVK.GroupVersion())
	}
	if _, ok := o.(interface{ Marshal() ([]byte, error) }); !ok {
		return encodeUnknown(k, o)
	}
	if o.GetObjectKind().GroupVersionKind() != k.GVK {
		o = Copy(o)
		o.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	var buf bytes.Buffer
	if err := protobuf.NewSerializer(scheme, scheme).Encode(o, &buf); err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(o), err)
	}
	return buf.Bytes(), nil
}

func encodeUnknown(k Kind, o Object) ([]byte, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(o), err)
	}
	u := runtime.Unknown{
		TypeMeta:    runtime.TypeMeta{APIVersion: k.GVK.GroupVersion().String(), Kind: k.GVK.Kind},
		Raw:         raw,
		ContentType: runtime.ContentTypeJSON,
	}
	b, err := u.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(o), err)
	}
	return append(append([]byte(nil), magic...), b...), nil
}

// Decode reads stored bytes. The object is new and owned by the caller, with its apiVersion and kind set.
func Decode(b []byte) (Object, error) {
	body, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return nil, fmt.Errorf("decode stored object: it does not begin with %q", magic)
	}
	u, ok := unknownOf(body)
	if !ok {
		if err := u.Unmarshal(body); err != nil {
			return nil, fmt.Errorf("decode stored object: %w", err)
		}
	}
	gvk := schema.FromAPIVersionAndKind(u.APIVersion, u.Kind)
	k, ok := KindOf(gvk)
	if !ok {
		return nil, fmt.Errorf("decode stored object: %w %s", ErrUnknownKind, gvk)
	}
	o := k.New()
	if u.ContentType == runtime.ContentTypeJSON {
		if err := json.Unmarshal(u.Raw, o); err != nil {
			return nil, fmt.Errorf("decode stored %s: %w", k, err)
		}
		return o, nil
	}
	m, ok := o.(interface{ Unmarshal([]byte) error })
	if !ok {
		return nil, fmt.Errorf("decode stored %s: it has no protobuf form", k)
	}
	if err := m.Unmarshal(u.Raw); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", k, err)
	}
	o.GetObjectKind().SetGroupVersionKind(k.GVK)
	if k.read != nil {
		k.read(o)
	}
	return o, nil
}

// Payload is the protobuf of an object inside its stored bytes, which it shares. False for a kind that is stored as JSON, and for what is no
// stored object.
func Payload(b []byte) ([]byte, bool) {
	body, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return nil, false
	}
	u, ok := unknownOf(body)
	return u.Raw, ok && u.Raw != nil && u.ContentType == "" && u.ContentEncoding == ""
}

// unknownOf reads a runtime.Unknown without a copy of what is in it. False, with an Unknown that is empty, if it is not written as we and Kubernetes write
// it: runtime.Unknown.Unmarshal says then whether it can be read.
func unknownOf(b []byte) (u runtime.Unknown, ok bool) {
	for len(b) > 0 {
		n, v, size := field(b)
		if size < 0 {
			return runtime.Unknown{}, false
		}
		switch n {
		case 1:
			for len(v) > 0 {
				n, s, size := field(v)
				switch {
				case size < 0:
					return runtime.Unknown{}, false
				case n == 1:
					u.APIVersion = string(s)
				case n == 2:
					u.Kind = string(s)
				default:
					return runtime.Unknown{}, false
				}
				v = v[size:]
			}
		case 2:
			u.Raw = v
		case 3:
			u.ContentEncoding = string(v)
		case 4:
			u.ContentType = string(v)
		default:
			return runtime.Unknown{}, false
		}
		b = b[size:]
	}
	return u, true
}

// field reads a field of bytes at the beginning of a message, and how much it takes there, which is negative if there is none. The bytes are shared.
func field(b []byte) (n protowire.Number, v []byte, size int) {
	n, kind, size := protowire.ConsumeTag(b)
	if size < 0 || kind != protowire.BytesType {
		return 0, nil, -1
	}
	v, taken := protowire.ConsumeBytes(b[size:])
	if taken < 0 {
		return 0, nil, -1
	}
	return n, v[:len(v):len(v)], size + taken
}

// EncodeJSON returns an object's JSON with apiVersion and kind. It does not change o.
func EncodeJSON(o Object) ([]byte, error) {
	k, err := KindOfObject(o)
	if err != nil {
		return nil, err
	}
	if o.GetObjectKind().GroupVersionKind() != k.GVK {
		o = Copy(o)
		o.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(o), err)
	}
	return b, nil
}

// Copy returns a deep copy that the caller owns.
func Copy[T Object](o T) T { return o.DeepCopyObject().(T) }
