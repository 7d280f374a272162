package api

import (
	"bytes"
	"compress/gzip"
	"hash/crc32"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// TestMember puts random bytes into one member, some of them deflated in pieces and some plain, and reads them with the standard library's reader,
// which checks the sum and the size, and must find no second member.
func TestMember(t *testing.T) {
	t.Parallel()
	var d deflaters
	var kept []*piece
	var plain [][]byte
	rapid.Check(t, func(t *rapid.T) {
		m, want := newMember(), []byte(nil)
		for range rapid.IntRange(0, 8).Draw(t, "runs") {
			if len(kept) > 0 && rapid.Bool().Draw(t, "kept") {
				n := rapid.IntRange(0, len(kept)-1).Draw(t, "which")
				m.add(kept[n])
				want = append(want, plain[n]...)
				continue
			}
			parts := rapid.SliceOfN(rapid.SliceOfN(rapid.ByteRange('a', 'e'), 0, 300), 0, 4).Draw(t, "parts")
			if n := rapid.SampledFrom([]int{1, 1, 1, 40, 800}).Draw(t, "times"); len(parts) > 0 {
				parts[0] = bytes.Repeat(parts[0], n)
			}
			all := bytes.Join(parts, nil)
			want = append(want, all...)
			if rapid.Bool().Draw(t, "plain") {
				m.plain(all)
				continue
			}
			p, err := d.piece(parts)
			if err != nil {
				t.Fatal(err)
			}
			m.add(p)
			kept, plain = append(kept, p), append(plain, all)
		}
		got := gunzip(t, bytes.Join(m.end(), nil))
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d others", len(want), len(got))
		}
	})
}

// gunzip reads exactly one member.
func gunzip(t interface{ Fatal(...any) }, b []byte) []byte {
	in := bytes.NewReader(b)
	r, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if in.Len() != 0 {
		t.Fatal(in.Len(), "bytes follow the first member")
	}
	return out
}

// TestShift joins sums of random bytes.
func TestShift(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOf(rapid.Byte()).Draw(t, "a"), rapid.SliceOf(rapid.Byte()).Draw(t, "b")
		want := crc32.ChecksumIEEE(append(bytes.Clone(a), b...))
		if got := times(crc32.ChecksumIEEE(a), shift(len(b))) ^ crc32.ChecksumIEEE(b); got != want {
			t.Fatalf("the sum is %08x, want %08x", got, want)
		}
	})
}
