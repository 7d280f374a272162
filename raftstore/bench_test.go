package raftstore

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkPropose is one entry of one 1 KiB value after the other, on a member alone with its log on disk, with each kind of log.
func BenchmarkPropose(b *testing.B) {
	for _, kind := range []string{LogWAL, LogBoltDB} {
		b.Run("log="+kind, func(b *testing.B) {
			s := openOne(b, b.TempDir(), nil, func(c *Config) { c.Log = kind })
			value := strings.Repeat("v", 1024)
			rev := s.View().Rev()
			for i := 0; b.Loop(); i++ {
				out, err := s.Propose(b.Context(), Entry{Base: rev, Time: time.Now().UnixNano(), Ops: []Op{put(fmt.Sprintf("/k/%d", i%1000), value)}})
				if err != nil {
					b.Fatal(err)
				}
				rev = out.Last
			}
		})
	}
}

// BenchmarkProposeThree is the same on three members linked by TCP on loopback, each with its log on the same disk: one entry after the
// other, and with 16 under way, each based on the one before.
func BenchmarkProposeThree(b *testing.B) {
	for _, kind := range []string{LogWAL, LogBoltDB} {
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("log=%s/depth=%d", kind, depth), func(b *testing.B) {
				s := trio(b, func(_ int, c *Config) { c.Log = kind })[0]
				value := strings.Repeat("v", 1024)
				rev := s.View().Rev()
				var flying []*Pending
				land := func() {
					if _, err := flying[0].Wait(b.Context()); err != nil {
						b.Fatal(err)
					}
					flying = flying[1:]
				}
				for i := 0; b.Loop(); i++ {
					p, err := s.Start(b.Context(), Entry{Base: rev, Time: time.Now().UnixNano(), Ops: []Op{put(fmt.Sprintf("/k/%d", i%1000), value)}})
					if err != nil {
						b.Fatal(err)
					}
					rev++
					if flying = append(flying, p); len(flying) == depth {
						land()
					}
				}
				for len(flying) > 0 {
					land()
				}
			})
		}
	}
}

// BenchmarkProposeStaged is an entry of 1,000 values of 2 KiB, which goes through a staged blob.
func BenchmarkProposeStaged(b *testing.B) {
	s := openOne(b, b.TempDir(), nil, nil)
	value := strings.Repeat("v", 2048)
	rev := s.View().Rev()
	for b.Loop() {
		ops := make([]Op, 1000)
		for i := range ops {
			ops[i] = put(fmt.Sprintf("/k/%d", i), value)
		}
		out, err := s.Propose(b.Context(), Entry{Base: rev, Time: time.Now().UnixNano(), Ops: ops})
		if err != nil {
			b.Fatal(err)
		}
		rev = out.Last
	}
}

// BenchmarkReadIndex is a linearizable read on a member alone.
func BenchmarkReadIndex(b *testing.B) {
	s := openOne(b, b.TempDir(), nil, nil)
	for b.Loop() {
		if _, err := s.ReadIndex(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
