package raftstore

import (
	"iter"
	"strings"

	"github.com/google/btree"
)

// Counted begins the rows of the index function that are only counted: records that have such a row in common are not kept one by one, so that
// to know how many there are costs nothing.
const Counted = "#"

// tally is how many records have a counted row, and the one that got it last: an example, which may be another version by now, or gone.
type tally struct {
	key string
	n   int
	rec *Record
}

func newTallies() *btree.BTreeG[tally] {
	return btree.NewG(degree, func(a, b tally) bool { return a.key < b.key })
}

func counted(row string) bool { return strings.HasPrefix(row, Counted) }

// count adds n to a counted row, and returns the row as it is kept, so that all records share its bytes. r is nil where one goes.
func (s *state) count(row string, r *Record, n int) string {
	t, had := s.tallies.Get(tally{key: row})
	if !had {
		t.key = row
	}
	if t.n += n; t.n <= 0 {
		s.tallies.Delete(t)
		return t.key
	}
	if r != nil {
		t.rec = r
	}
	s.tallies.ReplaceOrInsert(t)
	return t.key
}

// Tallied is a counted row, a record that has it, or had it last, and how many have it.
type Tallied struct {
	Row     string
	Example *Record
	N       int
}

// Tally yields the counted rows that begin with prefix, in their order. A view that At made counts all its records first.
func (v *View) Tally(prefix string) iter.Seq[Tallied] {
	return func(yield func(Tallied) bool) {
		from := v.tallies
		if v.past {
			from = v.talliesPast(prefix)
		}
		from.AscendGreaterOrEqual(tally{key: prefix}, func(t tally) bool {
			return strings.HasPrefix(t.key, prefix) && yield(Tallied{t.key, t.rec, t.n})
		})
	}
}

func (v *View) talliesPast(prefix string) *btree.BTreeG[tally] {
	out := newTallies()
	v.walk(Span{}, false, func(r *Record) bool {
		for _, k := range v.indexOf(r) {
			if counted(k) && strings.HasPrefix(k, prefix) {
				t, _ := out.Get(tally{key: k})
				out.ReplaceOrInsert(tally{key: k, n: t.n + 1, rec: r})
			}
		}
		return true
	})
	return out
}

// sameTallies tells whether two views count alike.
func sameTallies(a, b *View) bool {
	same := a.tallies.Len() == b.tallies.Len()
	a.tallies.Ascend(func(t tally) bool {
		o, ok := b.tallies.Get(t)
		same = same && ok && o.n == t.n
		return same
	})
	return same
}
