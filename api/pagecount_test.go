package api

import (
	"iter"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// walkedView is a view of objects, which counts how many are looked at.
type walkedView struct {
	View
	items []object.Object
	seen  int
}

func (*walkedView) Rev() uint64 { return 9 }

func (v *walkedView) List(string, string) iter.Seq[object.Object] { return nil }

func (v *walkedView) ListStored(_, _, start string) iter.Seq2[object.Object, []byte] {
	return func(yield func(object.Object, []byte) bool) {
		for _, o := range v.items {
			if object.KeyOf(o).Path() < start {
				continue
			}
			v.seen++
			if !yield(o, nil) {
				return
			}
		}
	}
}

// TestPagesAreCountedOnce: a list in pages looks at each object twice at most, and each page tells how many are left, in the first state that it came to.
func TestPagesAreCountedOnce(t *testing.T) {
	t.Parallel()
	v := &walkedView{}
	for _, m := range someConfigMaps(1000) {
		m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		v.items = append(v.items, m)
	}
	u, err := url.Parse("/api/v1/namespaces/default/configmaps?limit=30")
	if err != nil {
		t.Fatal(err)
	}
	to, ok := parseTarget(u)
	if !ok {
		t.Fatal("no target")
	}
	for name, forget := range map[string]bool{"token": false, "token of an earlier version": true} {
		v.seen = 0
		listed, at := 0, pageToken{}
		for {
			o, err := parseListOptions(to)
			if err != nil {
				t.Fatal(err)
			}
			p := onePage(v, at, to, o)
			listed += len(p.items)
			if p.meta.next == "" {
				break
			}
			if p.meta.remaining == nil || int(*p.meta.remaining) != len(v.items)-listed {
				t.Fatalf("%s: after %d of %d are left %v", name, listed, len(v.items), p.meta.remaining)
			}
			if at, err = readToken(p.meta.next); err != nil {
				t.Fatal(err)
			}
			if forget {
				at.Left = 0
			}
		}
		if listed != len(v.items) {
			t.Errorf("%s: %d of %d are listed", name, listed, len(v.items))
		}
		if !forget && v.seen > 2*len(v.items)+100 {
			t.Errorf("%d objects are looked at %d times", len(v.items), v.seen)
		}
	}
	// What a client makes of a token of its own is its own matter, but its list ends.
	o, err := parseListOptions(to)
	if err != nil {
		t.Fatal(err)
	}
	if p := onePage(v, pageToken{Rev: 9, Left: 1}, to, o); p.meta.next == "" || *p.meta.remaining != 1 {
		t.Errorf("a token that says too little is left ends the list: %+v", p.meta)
	}
}
