package seal

import (
	"bytes"
	"testing"
)

// FuzzKeys reads any bytes as the file of data keys: it is taken only as it was written.
func FuzzKeys(f *testing.F) {
	b, err := encode(file{Active: 1, Keys: []Key{{ID: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decode(b)
		if err != nil {
			return
		}
		if again, err := encode(k); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q was taken, and is written as %q, %v", b, again, err)
		}
	})
}

// FuzzOuterKey reads any bytes as the outer key.
func FuzzOuterKey(f *testing.F) {
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := parseKey(b); err == nil && len(key) != 32 {
			t.Fatalf("a key of %d bytes was taken", len(key))
		}
	})
}
