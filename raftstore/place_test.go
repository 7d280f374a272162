package raftstore

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// TestPlace: an entry's place is that of raft's log, also of one that was staged, after a restart from a snapshot and from the log, and goes with its key.
func TestPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := MemoryStorage()
		s := openOne(t, "", storage, nil)
		propose(t, s, put("/a", "1"))
		before := s.Stats().LastIndex
		propose(t, s, put("/b", "1"), put("/c", "1"), NotePlace("/c"), NotePlace("/none"))
		want := Place{Index: before + 1, Term: s.Leader().Term, First: 2, Last: 3}
		check := func(key string, want Place, there bool) {
			t.Helper()
			if p, ok := s.View().Place(key); ok != there || p != want {
				t.Errorf("the place beside %s is %+v, %t; want %+v", key, p, ok, want)
			}
		}
		check("/c", want, true)
		check("/b", Place{}, false)
		check("/none", Place{}, false)
		propose(t, s, put("/c", "2"))
		check("/c", want, true)
		noise := make([]byte, 2*MaxEntry)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		propose(t, s, put("/big", string(noise)), NotePlace("/big"))
		big := Place{Index: s.Stats().LastIndex, Term: s.Leader().Term, First: 5, Last: 5}
		check("/big", big, true)
		sum := digestOf(s)
		for range 2 { // from the log, then from a snapshot
			s.Close()
			s = openOne(t, "", storage, nil)
			check("/c", want, true)
			check("/big", big, true)
			if have := digestOf(s); have != sum {
				t.Error("the state is another after a restart")
			}
			if err := s.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		propose(t, s, Op{Kind: Delete, Key: "/c"})
		check("/c", Place{}, false)
		s.Close()
	})
}

// TestPlaceAsksForItsLevel: what an older member would not understand must stop it, and only that.
func TestPlaceAsksForItsLevel(t *testing.T) {
	for want, e := range map[uint16]Entry{
		2: {Ops: []Op{put("/a", "1")}},
		3: {Ops: []Op{put("/a", "1"), NotePlace("/a")}},
	} {
		if have := binary.BigEndian.Uint16(e.encode()[2:]); have != want {
			t.Errorf("the entry asks for level %d, not %d", have, want)
		}
	}
	packed := Entry{Ops: []Op{{Kind: opPacked, Value: bytes.Repeat([]byte("x"), 9)}}, own: []Op{NotePlace("/a")}}
	if have := binary.BigEndian.Uint16(packed.encode()[2:]); have != 3 {
		t.Errorf("packed, the entry asks for level %d", have)
	}
}

func digestOf(s *Store) string {
	s.fsm.mu.Lock()
	defer s.fsm.mu.Unlock()
	return s.fsm.st.digest()
}
