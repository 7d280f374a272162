package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"pgregory.net/rapid"
)

// store is what the suite is run on: a log store, and how to close and open it again.
type store struct {
	raft.LogStore
	reopen func() raft.LogStore
}

type fatal interface{ Fatal(args ...any) }

// stores are the fake in memory, raft-boltdb and ours, each made anew by its function.
var stores = map[string]func(t fatal, dir string) *store{
	"memory": func(_ fatal, _ string) *store {
		m := raft.NewInmemStore()
		return &store{m, func() raft.LogStore { return m }}
	},
	"boltdb": func(t fatal, dir string) *store {
		var b *raftboltdb.BoltStore
		open := func() raft.LogStore {
			var err error
			if b, err = raftboltdb.NewBoltStore(filepath.Join(dir, "log.db")); err != nil {
				t.Fatal(err)
			}
			return b
		}
		open()
		return &store{b, func() raft.LogStore { b.Close(); return open() }}
	},
	"wal": func(t fatal, dir string) *store {
		var w *Log
		open := func() raft.LogStore {
			var err error
			if w, err = Open(Options{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			return w
		}
		open()
		return &store{w, func() raft.LogStore { w.Close(); return open() }}
	},
}

func entry(index, term uint64, size int) *raft.Log {
	body := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(index), byte(index >> 8), byte(term)}).Read(body)
	l := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, AppendedAt: time.Unix(0, int64(index)*1000+1)}
	if size > 0 {
		l.Data = body
	}
	if index%3 == 0 {
		l.Extensions = []byte(fmt.Sprint("ext ", index))
	}
	if index%5 == 0 {
		l.Type = raft.LogConfiguration
	}
	return l
}

func entries(from, to, term uint64, size int) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, entry(i, term, size))
	}
	return out
}

// holds compares a store with what it should hold.
func holds(s raft.LogStore, want []*raft.Log, exactFirst bool) error {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(want) == 0 {
		if last != 0 || first != 0 {
			return fmt.Errorf("it holds %d to %d, want nothing", first, last)
		}
		return nil
	}
	if last != want[len(want)-1].Index || first > want[0].Index || (exactFirst && first != want[0].Index) {
		return fmt.Errorf("it holds %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for _, w := range want {
		var l raft.Log
		if err := s.GetLog(w.Index, &l); err != nil {
			return fmt.Errorf("entry %d: %w", w.Index, err)
		}
		if l.Index != w.Index || l.Term != w.Term || l.Type != w.Type || !bytes.Equal(l.Data, w.Data) || !bytes.Equal(l.Extensions, w.Extensions) || !l.AppendedAt.Equal(w.AppendedAt) {
			return fmt.Errorf("entry %d is another: term %d, %d bytes, want term %d, %d bytes", w.Index, l.Term, len(l.Data), w.Term, len(w.Data))
		}
	}
	var l raft.Log
	if err := s.GetLog(last+1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		return fmt.Errorf("an entry that is not there: %w", errors.Join(err, errors.New("want ErrLogNotFound")))
	}
	return nil
}

func TestLogStores(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			exact := true // until a cut at the front and a restart: what was deleted may show again
			check := func(what string, want []*raft.Log) {
				t.Helper()
				if err := holds(s, want, exact); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				s.LogStore = s.reopen()
				if err := holds(s, want, false); err != nil {
					t.Fatalf("%s, opened again: %v", what, err)
				}
			}
			store := func(logs []*raft.Log) {
				t.Helper()
				if err := s.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
			}
			del := func(lo, hi uint64) {
				t.Helper()
				if err := s.DeleteRange(lo, hi); err != nil {
					t.Fatal(err)
				}
			}
			check("an empty store", nil)
			want := append(entries(5, 5, 1, 0), entries(6, 300, 1, 700)...)
			if err := s.StoreLog(want[0]); err != nil {
				t.Fatal(err)
			}
			store(want[1:100])
			store(want[100:])
			check("300 entries", want)
			large := entries(301, 330, 2, 200<<10)
			store(large)
			want = append(want, large...)
			check("entries over several files", want)
			first, _ := s.FirstIndex()
			del(first, 200)
			want = want[200-5+1:]
			check("cut at the front", want)
			exact = false
			del(320, 330)
			want = want[:len(want)-11]
			check("cut at the end", want)
			again := entries(320, 322, 3, 100)
			store(again)
			want = append(want, again...)
			check("another end", want)
			del(210, 322)
			want = want[:9]
			check("cut far back", want)
			again = entries(210, 600, 4, 9<<10)
			store(again)
			want = append(want, again...)
			check("filled again", want)
			first, _ = s.FirstIndex()
			del(first, 600)
			check("all deleted", nil)
			exact = true
			want = entries(1000, 1010, 5, 64)
			store(want)
			check("begun anew behind a gap", want)
		})
	}
}

// Random appends, cuts and restarts give the same entries as with the fake in memory.
func TestEqualsTheFake(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ours, theirs := stores["wal"](rt, t.TempDir()), stores["memory"](rt, "")
		term := uint64(1)
		both := func(f func(raft.LogStore) error) {
			if err := errors.Join(f(ours), f(theirs)); err != nil {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				last, _ := theirs.LastIndex()
				if last == 0 {
					last = rapid.Uint64Range(0, 50).Draw(rt, "begin")
				}
				n := rapid.Uint64Range(1, 20).Draw(rt, "entries")
				logs := entries(last+1, last+n, term, rapid.IntRange(0, 40<<10).Draw(rt, "size"))
				both(func(s raft.LogStore) error { return s.StoreLogs(logs) })
			},
			"cut": func(rt *rapid.T) {
				first, _ := theirs.FirstIndex()
				last, _ := theirs.LastIndex()
				if last == 0 {
					return
				}
				at := rapid.Uint64Range(first, last).Draw(rt, "from")
				term++
				both(func(s raft.LogStore) error { return s.DeleteRange(at, last) })
			},
			"compact": func(rt *rapid.T) {
				first, _ := theirs.FirstIndex()
				last, _ := theirs.LastIndex()
				if last == 0 {
					return
				}
				at := rapid.Uint64Range(first, last).Draw(rt, "to")
				both(func(s raft.LogStore) error { return s.DeleteRange(first, at) })
			},
			"reopen": func(rt *rapid.T) {
				ours.LogStore = ours.reopen()
				// What was deleted at the front may show again after a restart.
				first, _ := theirs.FirstIndex()
				if shown, _ := ours.FirstIndex(); shown < first && shown > 0 {
					if err := ours.DeleteRange(shown, first-1); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"": func(rt *rapid.T) {
				first, _ := theirs.FirstIndex()
				last, _ := theirs.LastIndex()
				var want []*raft.Log
				for i := first; last > 0 && i <= last; i++ {
					var l raft.Log
					if err := theirs.GetLog(i, &l); err != nil {
						rt.Fatal(err)
					}
					want = append(want, &l)
				}
				if err := holds(ours, want, true); err != nil {
					rt.Fatal(err)
				}
			},
		})
		ours.reopen().(*Log).Close()
	})
}
