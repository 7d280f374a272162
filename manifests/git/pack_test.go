package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"math/rand"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// entry is one entry of a pack made by hand: a whole object, or a delta against the entry at an offset.
type entry struct {
	kind plumbing.ObjectType
	data []byte
	// base is the distance in entries to the base of an offset delta.
	base int
}

// handPack writes a pack as gitformat-pack(5) has it.
func handPack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("PACK")
	for _, n := range []uint32{2, uint32(len(entries))} {
		if err := binary.Write(&out, binary.BigEndian, n); err != nil {
			t.Fatal(err)
		}
	}
	var places []int
	for i, e := range entries {
		places = append(places, out.Len())
		size := len(e.data)
		b := byte(e.kind)<<4 | byte(size&15)
		for size >>= 4; size > 0; size >>= 7 {
			out.WriteByte(b | 0x80)
			b = byte(size & 0x7f)
		}
		out.WriteByte(b)
		if e.kind == plumbing.OFSDeltaObject {
			back := places[i] - places[i-e.base]
			digits := []byte{byte(back & 0x7f)}
			for back >>= 7; back > 0; back >>= 7 {
				back--
				digits = append([]byte{byte(back&0x7f) | 0x80}, digits...)
			}
			out.Write(digits)
		}
		z := zlib.NewWriter(&out)
		if _, err := z.Write(e.data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha1.Sum(out.Bytes())
	return append(out.Bytes(), sum[:]...)
}

// copyDelta is a delta that copies a base of less than 64 KiB whole, and adds a byte that makes the result another object.
func copyDelta(base []byte, add byte) []byte {
	d := binary.AppendUvarint(nil, uint64(len(base)))
	d = binary.AppendUvarint(d, uint64(len(base)+1))
	d = append(d, 0x80|0x10|0x20, byte(len(base)), byte(len(base)>>8))
	return append(d, 1, add)
}

// TestPackTotals: what a pack unpacks to is bounded as a whole, whether it comes as objects or as deltas of a few bytes against one
// large base.
func TestPackTotals(t *testing.T) {
	base := make([]byte, 10_000)
	rand.New(rand.NewSource(1)).Read(base)
	whole, deltas := []entry{}, []entry{{kind: plumbing.BlobObject, data: base}}
	for i := range 50 {
		whole = append(whole, entry{kind: plumbing.BlobObject, data: append([]byte{byte(i)}, base...)})
		deltas = append(deltas, entry{kind: plumbing.OFSDeltaObject, data: copyDelta(base, byte(i)), base: i + 1})
	}
	for name, tc := range map[string]struct {
		pack    []byte
		limits  Limits
		want    string
		objects int
	}{
		"objects within":           {handPack(t, whole...), Limits{ObjectBytes: 20_000, TotalBytes: 1_000_000, Objects: 100}, "", 50},
		"objects beyond":           {handPack(t, whole...), Limits{ObjectBytes: 20_000, TotalBytes: 100_000, Objects: 100}, "more than the limit of 100000 bytes", 0},
		"deltas within":            {handPack(t, deltas...), Limits{ObjectBytes: 20_000, TotalBytes: 1_000_000, Objects: 100}, "", 51},
		"deltas beyond":            {handPack(t, deltas...), Limits{ObjectBytes: 20_000, TotalBytes: 100_000, Objects: 100}, "more than the limit of 100000 bytes", 0},
		"a delta of a huge object": {handPack(t, deltas[:2]...), Limits{ObjectBytes: 10_000, TotalBytes: 1_000_000, Objects: 100}, "larger than the limit of 10000", 0},
		"too many objects":         {handPack(t, deltas...), Limits{ObjectBytes: 20_000, TotalBytes: 1_000_000, Objects: 50}, "more than the limit of 50", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := unpack(tc.pack, tc.limits, func(Hash) (*Object, bool) { return nil, false })
			if tc.want == "" && (err != nil || len(got) != tc.objects) {
				t.Errorf("%d objects, err %v; want %d", len(got), err, tc.objects)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("err %v, want %q", err, tc.want)
			}
		})
	}
	if len(handPack(t, deltas...)) > 15_000 {
		t.Error("the deltas are not small, so the test shows nothing")
	}
}

// TestCommandsCompareAndSwap: a command whose old hash is not where the ref is never reaches the receiver.
func TestCommandsCompareAndSwap(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.git("x", "push", "cluster", "main", "main:feature")
	first := w.ref("refs/heads/feature")
	w.commit("x", "b.yaml", "b")
	w.git("x", "push", "cluster", "main", "main:feature")
	second := w.ref("refs/heads/feature")
	zero := Hash{}.String()
	push := func(old, new string) (string, bool) {
		t.Helper()
		recv := &receiver{store: w.store}
		in := appendFlush(appendPkt(nil, "%s %s refs/heads/feature\x00report-status", old, new))
		if new != zero {
			in = append(in, handPack(t)...)
		}
		var out bytes.Buffer
		if err := w.repo.ReceivePack(t.Context(), bytes.NewReader(in), &out, recv); err != nil {
			t.Fatal(err)
		}
		return out.String(), recv.last != nil
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"delete what has moved", first, zero, "stale: feature is at " + second[:7]},
		{"create what is there", zero, second, "stale: feature is at " + second[:7]},
		{"move what has moved", first, second, "stale: feature is at " + second[:7]},
		{"delete what is where it was", second, zero, ""},
		{"delete what is gone", second, zero, "stale: feature is at "},
		{"create what is gone", zero, second, ""},
	} {
		out, received := push(tc.old, tc.new)
		if tc.want == "" && (!received || !strings.Contains(out, "ok refs/heads/feature")) || tc.want != "" && (received || !strings.Contains(out, tc.want)) {
			t.Errorf("%s: reached the receiver: %v, want %q:\n%q", tc.name, received, tc.want, out)
		}
	}
}
