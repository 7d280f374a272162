package api

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// writes keeps what is written, and how.
type writes struct {
	bytes.Buffer
	sizes []int
}

func (w *writes) Write(b []byte) (int, error) {
	w.sizes = append(w.sizes, len(b))
	return w.Buffer.Write(b)
}

// TestCopyParts writes random parts: their bytes in order, in no larger writes than the answer's size allows, and all but the last of a good length.
func TestCopyParts(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 2<<20)
	rapid.Check(t, func(t *rapid.T) {
		var parts [][]byte
		size := 0
		for i := range rapid.IntRange(0, 40).Draw(t, "parts") {
			n := rapid.SampledFrom([]int{0, 1, 3000, smallWrite - 1, smallWrite, smallWrite + 1, largeWrite, 1 << 20, 2<<20 - 1}).Draw(t, "size")
			parts = append(parts, append([]byte{byte(i)}, zeros[:n]...))
			size += n + 1
		}
		var w writes
		copyParts(&w, parts, size)
		if !bytes.Equal(w.Bytes(), bytes.Join(parts, nil)) {
			t.Fatal("the bytes differ")
		}
		most := smallWrite
		if size >= largeAnswer {
			most = largeWrite
		}
		for i, n := range w.sizes {
			if n > most {
				t.Fatalf("write %d of %d is of %d bytes, want %d at most", i, len(w.sizes), n, most)
			}
		}
		if least := size / most; len(w.sizes) > 2*least+2 {
			t.Fatalf("%d writes for %d bytes", len(w.sizes), size)
		}
	})
}
