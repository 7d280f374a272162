package raftstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"reconcile/raftstore/disk"
)

// What the fuzzer cannot guess, checksums and compression, these targets put around its bytes: so it reaches what lies behind them. No decoder
// may panic, and what one takes must be what is written again.

// framesOf is a snapshot made of frames: kind, length as two bytes, body.
func framesOf(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	out.WriteString(snapMagic)
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	fw := &frameWriter{w: bufio.NewWriter(z), sum: crc32.New(castagnoli)}
	for len(b) >= 3 {
		kind, n := b[0], min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
		fw.frame(kind, b[3:3+n])
		b = b[3+n:]
	}
	fw.frame(frameEnd, binary.BigEndian.AppendUint32(nil, fw.sum.Sum32()))
	for _, err := range []error{fw.err, fw.w.Flush(), z.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// framesIn undoes framesOf.
func framesIn(t testing.TB, snap []byte) (out []byte) {
	fr, end, err := openFrames(bytes.NewReader(snap))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for {
		kind, body, err := fr.next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameEnd {
			return out
		}
		if len(body) < 1<<16 {
			out = append(binary.BigEndian.AppendUint16(append(out, kind), uint16(len(body))), body...)
		}
	}
}

// FuzzSnapshotFrames reads any frames as a snapshot. What is taken is a state whose own snapshot makes the same state.
func FuzzSnapshotFrames(f *testing.F) {
	m := newMachine(byFirst)
	p := &program{b: bytes.Repeat([]byte{1, 0, 7, 3, 2, 9, 4, 1, 5, 2, 8, 6}, 60)}
	for i := 1; len(p.b) > 0; i++ {
		applyRaw(f, m, i, p.entry(m.st.rev, uint64(i)))
	}
	snap, err := m.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		f.Fatal(err)
	}
	snap.Release()
	f.Add(framesIn(f, s.Bytes()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frames []byte) {
		one := newMachine(byFirst)
		one.fetch = one.fetchOwn // no other member has what is not here
		if one.Restore(readCloser{bytes.NewReader(framesOf(t, frames))}) != nil {
			return
		}
		two := restored(t, one)
		if a, b := one.st.digest(), two.st.digest(); a != b {
			t.Fatalf("a state of digest %s makes a snapshot of digest %s: %v", a, b, Equal(one.view(), two.view()))
		}
	})
}

// FuzzSnapshotFile reads any bytes as a snapshot's file: a description with the right checksum, and blocks.
func FuzzSnapshotFile(f *testing.F) {
	dir := f.TempDir()
	folder := &snapFolder{fs: disk.OS{}, dir: dir}
	f.Add([]byte(`{"meta":{"ID":"x"}}`), []byte{1, 0, 0, 0x80, 'a', 0, 0, 0, 0})
	f.Add([]byte(`{"folder":"y","meta":{"ID":"x","Version":1},"sealed":40}`), []byte{})
	f.Fuzz(func(t *testing.T, head, blocks []byte) {
		b := binary.LittleEndian.AppendUint32([]byte(snapFileMagic), uint32(len(head)))
		b = append(b, head...)
		b = append(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), blocks...)
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, r, err := folder.openAt(path, "x")
		if err != nil {
			return
		}
		defer r.Close()
		if body, err := io.ReadAll(r); err == nil && len(body) > len(blocks) {
			t.Fatalf("%d bytes come of %d", len(body), len(blocks))
		}
	})
}

// FuzzIdentity: what has a checksum is taken only as it was written.
func FuzzIdentity(f *testing.F) {
	b, err := encodeIdentity(Identity{ClusterID: "c", ServerID: "s", Folder: "f", Log: LogWAL, Votes: 3, Term: 2, LogTerm: 2, Index: 9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"clusterID":"c"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeIdentity(b)
		if err != nil || id.Checksum == "" {
			return
		}
		if again, err := encodeIdentity(id); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q was taken, and is written as %q, %v", b, again, err)
		}
	})
}

// FuzzMark reads any bytes as a mark.
func FuzzMark(f *testing.F) {
	m := &markFile{fs: disk.OS{}, path: filepath.Join(f.TempDir(), "mark"), folder: 7}
	f.Add(m.encode(position{3, 9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == markSize {
			b = binary.LittleEndian.AppendUint32(bytes.Clone(b[:markSize-4]), crc32.Checksum(b[:markSize-4], castagnoli))
		}
		mine := &markFile{fs: m.fs, path: fmt.Sprint(m.path, os.Getpid()), folder: m.folder}
		if err := os.WriteFile(mine.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := mine.load(); err == nil && !bytes.Equal(mine.encode(p), b) {
			t.Fatalf("%x was taken as %+v", b, p)
		}
	})
}

// FuzzBallot reads any bytes, with their checksum, as term and vote.
func FuzzBallot(f *testing.F) {
	f.Add([]byte(`{"writes":3,"values":{"CurrentTerm":"AAAAAAAAAAE="}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &ballot{values: map[string][]byte{}}
		if b.decode(body) == nil && len(body) < 4 {
			t.Fatal("taken without a checksum")
		}
		if b.decode(binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))) == nil {
			_, _ = b.Get([]byte(keyTerm)) // that it is not there is no fault
		}
	})
}

// FuzzChunk reads any bytes as a piece of a blob.
func FuzzChunk(f *testing.F) {
	f.Add(encodeChunk(10, 3, []byte("abc")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeChunk(b)
		if err == nil && !bytes.Equal(encodeChunk(int(c.total), int(c.offset), c.body), b) {
			t.Fatalf("%x was taken as %+v", b, c)
		}
	})
}
