package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// filled is a state of n keys with values of size bytes.
func filled(n, size int) *state {
	s := newState(func(*Record) []string { return nil }, testPacker())
	fill(s, 0, n, size)
	return s
}

func benchKey(i int) string { return fmt.Sprintf("/registry/pods/default/pod-%07d", i) }

func fill(s *state, from, to, size int) {
	for i := from; i < to; {
		e := &Entry{Base: s.rev, Nonce: uint64(i)}
		for ; i < to && len(e.Ops) < 64; i++ {
			e.Ops = append(e.Ops, Op{Kind: Put, Key: benchKey(i), Value: bytes.Repeat([]byte{byte(i)}, size)})
		}
		if out, _, err := s.apply(e, position{index: uint64(i)}, nil); err != nil || out.Refused {
			panic(out.Reason)
		}
	}
}

// BenchmarkUpdate puts 64 keys of 100,000 in an entry, with a view taken between entries (shared) or none.
func BenchmarkUpdate(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("viewed=%v", shared), func(b *testing.B) {
			s := filled(100_000, 256)
			var v *View
			for i := 0; b.Loop(); i++ {
				e := &Entry{Base: s.rev, Nonce: uint64(1e9 + i)}
				for k := range 64 {
					e.Ops = append(e.Ops, Op{Kind: Put, Key: benchKey((i*64 + k*7919) % 100_000), Value: make([]byte, 256)})
				}
				if out, _, err := s.apply(e, position{index: uint64(i)}, nil); err != nil || out.Refused {
					b.Fatal(out.Reason)
				}
				s.compact(s.rev)
				s.collect(1000)
				if shared {
					v = s.view()
				}
			}
			runtime.KeepAlive(v)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/put")
		})
	}
}

// BenchmarkView takes a view of 100,000 keys.
func BenchmarkView(b *testing.B) {
	s := filled(100_000, 64)
	for b.Loop() {
		s.view()
	}
}

// BenchmarkRange10k reads 10,000 of 100,000 keys, now and as they were before each was changed.
func BenchmarkRange10k(b *testing.B) {
	s := filled(100_000, 64)
	past := s.rev
	fill(s, 0, 100_000, 64)
	now := s.view()
	then, err := now.At(past)
	if err != nil {
		b.Fatal(err)
	}
	for name, v := range map[string]*View{"now": now, "past": then} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if p, err := v.Select(Query{Span: Span{From: benchKey(50_000)}, Limit: 10_000}); err != nil || len(p.Records) != 10_000 {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCount counts 100,000 keys of a prefix.
func BenchmarkCount(b *testing.B) {
	v := filled(100_000, 64).view()
	for b.Loop() {
		if v.Count(Prefix("/registry/pods/")) != 100_000 {
			b.Fatal("wrong count")
		}
	}
}

// BenchmarkMemory is what the state takes for each of 100,000 keys besides key and value, and for each older version that it keeps.
func BenchmarkMemory(b *testing.B) {
	const n, size = 100_000, 256
	used := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	payload := float64(len(benchKey(0)) + size)
	for b.Loop() {
		before := used()
		s := filled(n, size)
		filled := used()
		fill(s, 0, n, size)
		after := used()
		b.ReportMetric((filled-before)/n-payload, "B/key")
		b.ReportMetric((after-filled)/n-size, "B/version")
		runtime.KeepAlive(s)
	}
}

// BenchmarkRestore1M reads a snapshot of a million keys of 256 bytes, which is most of a start.
func BenchmarkRestore1M(b *testing.B) {
	if testing.Short() {
		b.Skip("it takes some 3 GB")
	}
	f := newMachine(func(*Record) []string { return nil })
	f.st = filled(1_000_000, 256)
	snap, err := f.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		other := newMachine(func(*Record) []string { return nil })
		if err := other.Restore(readCloser{bytes.NewReader(s.Bytes())}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatch delivers events to many watches: all of one prefix, or each of a key of its own. The time is that of one delivery, from the
// state machine's publish to the watcher's goroutine; entries have 16 events.
func BenchmarkWatch(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for _, sparse := range []bool{false, true} {
			b.Run(fmt.Sprintf("watchers=%d/sparse=%v", n, sparse), func(b *testing.B) { benchWatch(b, n, sparse) })
		}
	}
}

func benchWatch(b *testing.B, n int, sparse bool) {
	h := newHistory(64<<10, 64<<20)
	s := newState(func(*Record) []string { return nil }, testPacker())
	h.view = func() *View { return s.view() }
	ctx, cancel := context.WithCancel(b.Context())
	var watchers sync.WaitGroup
	var delivered sync.WaitGroup
	for i := range n {
		span := Prefix("/registry/pods/")
		if sparse {
			span = Key(benchKey(i))
		}
		w, err := h.watch(span, 0)
		if err != nil {
			b.Fatal(err)
		}
		watchers.Go(func() {
			for {
				events, _, err := w.Next(ctx)
				if err != nil {
					return
				}
				delivered.Add(-len(events))
			}
		})
	}
	const block = 16
	each := n
	if sparse {
		each = 1
	}
	rev := uint64(0)
	for b.Loop() {
		events := make([]*Event, block)
		for i := range events {
			rev++
			key := benchKey(int(rev) * 7919 % n)
			events[i] = &Event{Rev: rev, Key: key, Rec: &Record{Key: key, ModRev: rev}}
		}
		delivered.Add(block * each)
		h.publish(rev, events)
		delivered.Wait()
	}
	b.StopTimer()
	cancel()
	watchers.Wait()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/block/float64(each), "ns/event")
}
