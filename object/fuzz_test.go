package object

import (
	"bytes"
	"testing"
)

// FuzzParsePath: what is read as the path of an object is the path of what was read.
func FuzzParsePath(f *testing.F) {
	for _, p := range []string{"/registry/pods/default/web", "/registry/nodes/n1", "/registry/a/b/c/d", "/registry//", "/git/refs/heads/main"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		k, err := ParsePath(path)
		if err == nil && k.Path() != path {
			t.Errorf("%q is read as %+v, whose path is %q", path, k, k.Path())
		}
	})
}

// FuzzParseFields: what is read as FieldsV1 is written as what is read the same, in one form, and every path in it is owned.
func FuzzParseFields(f *testing.F) {
	f.Add([]byte(`{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}},"f:metadata":{"f:finalizers":{"v:\"x\"":{}}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"":{"\u0000":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := ParseFields(raw)
		if err != nil {
			return
		}
		once := x.Append(nil)
		again, err := ParseFields(once)
		if err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Errorf("%s is written as %s and read as %s, %v", raw, once, again.Append(nil), err)
		}
		var walk func(at Fields, path []string)
		walk = func(at Fields, path []string) {
			for name, below := range at {
				p := append(path[:len(path):len(path)], name)
				if !x.Owns(p) {
					t.Errorf("%s does not own %q", once, p)
				}
				walk(below, p)
			}
		}
		walk(x, nil)
	})
}
