package api

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// pageOf is a page of config maps of so many bytes.
func pageOf(size int, maps ...*corev1.ConfigMap) page {
	var p page
	value := make([]byte, size)
	for _, m := range maps {
		p.add(m, value)
	}
	return p
}

func someConfigMaps(n int) []*corev1.ConfigMap {
	out := make([]*corev1.ConfigMap, n)
	for i := range out {
		out[i] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("m-%05d", i), ResourceVersion: fmt.Sprint(i + 1)}}
	}
	return out
}

// encoded counts how many objects are encoded for a page. The bytes of an object are its name and revision, so that a wrong piece is seen.
func encoded(t *testing.T, z *zips, p page) (objects int) {
	t.Helper()
	pieces, err := z.pieces(p, "form", func(from, to int) ([][]byte, error) {
		objects += to - from
		return textOf(p.items[from:to]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newMember()
	for _, x := range pieces {
		m.add(x)
	}
	var want, got []byte
	for _, b := range textOf(p.items) {
		want = append(want, b...)
	}
	for _, b := range m.end() {
		got = append(got, b...)
	}
	if got := gunzip(t, got); string(got) != string(want) {
		t.Fatalf("%d objects became %d bytes, want %d", len(p.items), len(got), len(want))
	}
	return objects
}

func textOf(items []object.Object) (parts [][]byte) {
	for _, o := range items {
		parts = append(parts, []byte(o.GetName()), []byte(o.GetResourceVersion()))
	}
	return parts
}

// TestChangeCostsItsPiece: of a list of 5,000 a change, a removal and an addition cost the compression of few, whatever their sizes, and a list of which
// nothing has changed none.
func TestChangeCostsItsPiece(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 3000, 1 << 20} {
		z := newZips(64 << 20)
		maps := someConfigMaps(5000)
		if n := encoded(t, &z, pageOf(size, maps...)); n != len(maps) {
			t.Fatalf("the first list encodes %d of %d", n, len(maps))
		}
		if n := encoded(t, &z, pageOf(size, maps...)); n != 0 {
			t.Errorf("size %d: a list of what is known encodes %d", size, n)
		}
		sum, times := 0, 0
		for range 20 {
			i := rand.IntN(len(maps) - 1)
			changed := append([]*corev1.ConfigMap(nil), maps...)
			changed[i] = maps[i].DeepCopy()
			changed[i].ResourceVersion += "0000"
			removed := append(append([]*corev1.ConfigMap(nil), maps[:i]...), maps[i+1:]...)
			added := maps[i].DeepCopy()
			added.Name, added.ResourceVersion = added.Name+"a", added.ResourceVersion+"1111"
			more := append(append(append([]*corev1.ConfigMap(nil), maps[:i+1]...), added), maps[i+1:]...)
			for _, next := range [][]*corev1.ConfigMap{changed, removed, more} {
				sum += encoded(t, &z, pageOf(size, next...))
				times++
			}
		}
		// The piece that a random object is in has twice the mean's objects, and two are one after a removal of the last.
		if mean := sum / times; mean > 4*pieceObjects {
			t.Errorf("size %d: a change encodes %d objects in the mean", size, mean)
		}
	}
}

// TestHolesAreNotKept: pieces of which something is left out are made for one answer, and the others come from what is kept.
func TestHolesAreNotKept(t *testing.T) {
	t.Parallel()
	z := newZips(64 << 20)
	maps := someConfigMaps(5000)
	encoded(t, &z, pageOf(1000, maps...))
	var p page
	for i, m := range maps {
		if i == 700 || i == 701 || i == 3000 {
			p.hole()
			continue
		}
		p.add(m, make([]byte, 1000))
	}
	for range 2 {
		if n := encoded(t, &z, p); n == 0 || n > 2*10*pieceObjects {
			t.Errorf("a list with two holes encodes %d", n)
		}
	}
	var odd page
	for i, m := range maps {
		if i%2 == 0 {
			odd.hole()
		} else {
			odd.add(m, make([]byte, 1000))
		}
	}
	if runs := z.cut(odd); len(runs) != 1 {
		t.Errorf("a list with holes everywhere has %d runs", len(runs))
	}
}

// TestZipsAreBounded makes more pieces than may be kept.
func TestZipsAreBounded(t *testing.T) {
	t.Parallel()
	z := newZips(64 << 10)
	for i := range 40 {
		maps := someConfigMaps(2000)
		for _, m := range maps {
			m.ResourceVersion = fmt.Sprint(m.ResourceVersion, "-", i)
		}
		encoded(t, &z, pageOf(1000, maps...))
	}
	total := 0
	for _, kept := range []map[pieceKey]*piece{z.kept.now, z.kept.old} {
		for _, p := range kept {
			total += cap(p.deflated)
		}
	}
	if total == 0 || total > 64<<10 {
		t.Errorf("%d bytes are kept", total)
	}
}
