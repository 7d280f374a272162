package wal

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	raftwal "github.com/hashicorp/raft-wal"
)

// BenchmarkAppend is an append of one entry, or of 32, of 1 KiB each, with its syncs, to ours, to raft-boltdb and to raft-wal.
func BenchmarkAppend(b *testing.B) {
	logs := map[string]func(dir string) (raft.LogStore, error){
		"wal": func(dir string) (raft.LogStore, error) { return Open(Options{Dir: dir}) },
		"boltdb": func(dir string) (raft.LogStore, error) {
			return raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "log.db")})
		},
		"raft-wal": func(dir string) (raft.LogStore, error) { return raftwal.Open(dir) },
	}
	for _, batch := range []uint64{1, 32} {
		for _, name := range []string{"wal", "raft-wal", "boltdb"} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, batch), func(b *testing.B) {
				s, err := logs[name](b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				defer s.(interface{ Close() error }).Close()
				b.SetBytes(int64(batch) << 10)
				next := uint64(1)
				for b.Loop() {
					if err := s.StoreLogs(entries(next, next+batch-1, 1, 1<<10)); err != nil {
						b.Fatal(err)
					}
					next += batch
					if next%4096 < batch && next > 8192 {
						first, _ := s.FirstIndex()
						if err := s.DeleteRange(first, next-4096); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
