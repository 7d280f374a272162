package raftstore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"
)

// TestReadAhead: what is read ahead is what the reader gave, with its error behind the last byte; and it ends whenever it is closed.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	broken := errors.New("broken")
	for _, size := range []int{0, 1, aheadSize - 1, aheadSize, aheadSize + 1, 7*aheadSize + 13} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		for _, end := range []error{nil, broken} {
			var r io.Reader = bytes.NewReader(want)
			if end != nil {
				r = io.MultiReader(r, iotest.ErrReader(end))
			}
			a := newReadAhead(r)
			var got []byte
			var err error
			for err == nil {
				p := make([]byte, 1+rng.IntN(3*aheadSize/2))
				var n int
				n, err = a.Read(p)
				got = append(got, p[:n]...)
			}
			if end == nil {
				end = io.EOF
			}
			if _, again := a.Read(make([]byte, 1)); err != end || again != end { //nolint:errorlint // the very error
				t.Errorf("%d bytes end with %v and then %v, want %v", size, err, again, end)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes were read as %d others", size, len(got))
			}
			a.Close()
		}
	}
	a := newReadAhead(bytes.NewReader(make([]byte, 9*aheadSize)))
	for len(a.free) > 0 {
		runtime.Gosched()
	}
	a.Close() // with all blocks full, which nobody takes
}
