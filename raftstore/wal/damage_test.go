package wal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

func openAt(t testing.TB, dir string) *Log {
	t.Helper()
	w, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func fill(t testing.TB, w *Log, logs []*raft.Log, batch int) {
	t.Helper()
	for part := range slices.Chunk(logs, batch) {
		if err := w.StoreLogs(part); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	return names
}

// with writes body to the only segment of a new folder and opens it.
func with(t testing.TB, name string, body []byte) (*Log, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(Options{Dir: dir})
}

// A write that was cut at any byte, or lost any set of its sectors, is cut off as a whole or in part, at a frame; what was written
// before it is there, and the log goes on.
func TestTornTailIsCut(t *testing.T) {
	dir := t.TempDir()
	w := openAt(t, dir)
	fill(t, w, entries(1, 20, 1, 300), 4)
	before := w.segments[0].end
	fill(t, w, entries(21, 24, 1, 700), 4)
	end := w.segments[0].end
	name := files(t, dir)[0]
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(body []byte, what string) {
		t.Helper()
		r, err := with(t, filepath.Base(name), body)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer r.Close()
		last, _ := r.LastIndex()
		if last < 20 || last > 24 {
			t.Fatalf("%s: the log ends at %d", what, last)
		}
		want := append(entries(1, 20, 1, 300), entries(21, last, 1, 700)...)
		more := entries(last+1, last+3, 2, 50)
		if err := r.StoreLogs(more); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := holds(r, append(want, more...), true); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		again, err := Open(Options{Dir: r.opt.Dir})
		if err != nil {
			t.Fatalf("%s, appended to and opened again: %v", what, err)
		}
		again.Close()
	}
	step := int64(37)
	if testing.Short() {
		step = 101
	}
	for at := before; at <= end; at += step {
		body := bytes.Clone(whole)
		clear(body[at:end])
		if at%sector == 0 || at == before || looksTorn(body, w.segments[0].header) {
			check(body, fmt.Sprintf("cut at byte %d of %d to %d", at, before, end))
		}
	}
	sectors := int((end-1)/sector - before/sector + 1)
	for set := range 1 << sectors {
		body := bytes.Clone(whole)
		for k := range sectors {
			if set&(1<<k) == 0 {
				from := (before/sector + int64(k)) * sector
				clear(body[max(from, before):min(from+sector, end)])
			}
		}
		check(body, fmt.Sprintf("only sectors %b of the last write", set))
		if testing.Short() && set > 40 {
			break
		}
	}
}

// looksTorn tells whether what follows the last good frame of a segment is a frame that misses a sector.
func looksTorn(raw []byte, h header) bool {
	b := bytes.Clone(raw)
	whiten(b[sector:], h.mask())
	var l raft.Log
	for at := int64(sector); ; {
		f, err := readFrame(b[at:], h.salt, &l)
		if err != nil {
			return torn(b, at, h)
		}
		at += f.size()
	}
}

// Every flipped bit of a log that was closed is found when it is opened, the last entry's too; none gives other entries.
func TestFlippedBitIsFound(t *testing.T) {
	t.Run("text", func(t *testing.T) { flipEach(t, entries(1, 12, 1, 90)) })
	// Whole sectors of the last frame are zeros, as a sector is that a crash left out.
	zeros := entries(1, 3, 1, 1700)
	for _, l := range zeros {
		clear(l.Data)
	}
	t.Run("zeros", func(t *testing.T) { flipEach(t, zeros) })
	t.Run("empty", func(t *testing.T) { flipEach(t, []*raft.Log{{Index: 1, Term: 1}, {Index: 2, Term: 1}}) })
}

func flipEach(t *testing.T, want []*raft.Log) {
	dir := t.TempDir()
	w := openAt(t, dir)
	fill(t, w, want, 3)
	end, of := w.segments[0].end, w.segments[0].header
	name := files(t, dir)[0]
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	silent := 0
	whole = whole[:align(end)+2*sector]
	for bit := range end * 8 {
		body := bytes.Clone(whole)
		body[bit/8] ^= 1 << (bit % 8)
		if bit/8 >= headerUsed && bit/8 < sector {
			continue // nothing is there
		}
		s := &segment{header: of, end: sector}
		if bit/8 < sector {
			_, err = decodeHeader(body)
		} else {
			err = (&Log{opt: w.opt, segments: []*segment{s}}).frames(s, body, 0)
		}
		if err != nil {
			continue
		}
		if len(s.offsets) != len(want) { // taken for a torn write
			t.Fatalf("bit %d of byte %d was flipped, and the log ends at entry %d of %d", bit%8, bit/8, len(s.offsets), len(want))
		}
		silent++ // in the zeros that fill up a frame
	}
	t.Logf("%d bits flipped, %d of them in fill bytes", end*8, silent)
}

// Damage of every kind that a disk does to whole files and pages is found, and the error names the file.
func TestDamageIsFound(t *testing.T) {
	make3 := func(t *testing.T) (string, []string) {
		dir := t.TempDir()
		w := openAt(t, dir)
		fill(t, w, entries(1, 600, 1, 12<<10), 16)
		w.Close()
		names := files(t, dir)
		if len(names) != 3 {
			t.Fatalf("%d segments", len(names))
		}
		return dir, names
	}
	edit := func(t *testing.T, name string, f func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		file   int
		damage func(t *testing.T, names []string)
	}{
		"zeroed page": {1, func(t *testing.T, n []string) {
			edit(t, n[1], func(b []byte) []byte { clear(b[40960:45056]); return b })
		}},
		"stale sector": {0, func(t *testing.T, n []string) {
			edit(t, n[0], func(b []byte) []byte { copy(b[8192:8704], b[4096:]); return b })
		}},
		"truncated":      {1, func(t *testing.T, n []string) { edit(t, n[1], func(b []byte) []byte { return b[:len(b)-8192] }) }},
		"emptied":        {2, func(t *testing.T, n []string) { edit(t, n[2], func(b []byte) []byte { return nil }) }},
		"middle missing": {1, func(t *testing.T, n []string) { os.Remove(n[1]) }},
		"end of a segment": {0, func(t *testing.T, n []string) {
			edit(t, n[0], func(b []byte) []byte { clear(b[len(b)-64<<10:]); return b })
		}},
		"swapped": {0, func(t *testing.T, n []string) {
			os.Rename(n[0], n[0]+".x")
			os.Rename(n[1], n[0])
			os.Rename(n[0]+".x", n[1])
		}},
		"of another log": {1, func(t *testing.T, n []string) {
			_, other := make3(t)
			b, _ := os.ReadFile(other[1])
			os.WriteFile(n[1], b, 0o600)
		}},
		"middle of the newest": {2, func(t *testing.T, n []string) { edit(t, n[2], func(b []byte) []byte { clear(b[4096:8192]); return b }) }},
	} {
		t.Run(what, func(t *testing.T) {
			dir, names := make3(t)
			c.damage(t, names)
			w, err := Open(Options{Dir: dir})
			if err == nil {
				w.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), names[c.file]) {
				t.Errorf("the error %q does not name %s", err, names[c.file])
			}
		})
	}
	// A log whose ID is known is not exchanged for another one as a whole.
	dir, _ := make3(t)
	if _, err := Open(Options{Dir: dir, ID: 7}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another log in its place: %v", err)
	}
}

// What the disk changes while the log is open is found when it is read.
func TestReadChecks(t *testing.T) {
	dir := t.TempDir()
	w := openAt(t, dir)
	fill(t, w, entries(1, 9, 1, 1000), 3)
	f, err := os.OpenFile(files(t, dir)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), int64(w.segments[0].offsets[4])+100); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 9; i++ {
		var l raft.Log
		if err := w.GetLog(i, &l); (i == 5) != errors.Is(err, ErrDamaged) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// A full disk stops an append before it has written anything, and the log goes on when there is space again. Any other failure ends it.
func TestFullDiskAndFailedSync(t *testing.T) {
	full, broken := false, false
	fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		switch {
		case full && op == disk.OpAllocate:
			return syscall.ENOSPC
		case broken && op == disk.OpDatasync:
			return syscall.EIO
		}
		return nil
	}}
	w, err := Open(Options{Dir: t.TempDir(), FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	want := entries(1, 3, 1, 200<<10)
	fill(t, w, want, 3)
	full = true
	more := entries(4, 10, 1, 200<<10)
	if err := w.StoreLogs(more); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("on a full disk: %v", err)
	}
	if err := holds(w, want, true); err != nil {
		t.Error(err)
	}
	full = false
	fill(t, w, more, 7)
	if err := holds(w, append(want, more...), true); err != nil {
		t.Error(err)
	}
	broken = true
	if err := w.StoreLog(entry(11, 1, 5)); !errors.Is(err, syscall.EIO) {
		t.Errorf("a failed sync: %v", err)
	}
	broken = false
	if err := w.StoreLog(entry(11, 1, 5)); !errors.Is(err, syscall.EIO) {
		t.Errorf("after a failed sync: %v", err)
	}
	if err := w.DeleteRange(5, 10); !errors.Is(err, syscall.EIO) {
		t.Errorf("cut after a failed sync: %v", err)
	}
}

// What a process wrote and did not sync before it was killed is made durable by the next one, before it counts it: the append that comes
// next may begin another segment, and then nobody would sync it.
func TestOpenSyncsWhatItFinds(t *testing.T) {
	for _, at := range []disk.Op{disk.OpDatasync, disk.OpSyncDir} {
		t.Run(string(at), func(t *testing.T) {
			dir, killed := t.TempDir(), false
			w, err := Open(Options{Dir: dir, FS: disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, _ string) error {
				if killed && op == at {
					return errors.New("killed here")
				}
				return nil
			}}})
			if err != nil {
				t.Fatal(err)
			}
			want := uint64(2)
			if at == disk.OpDatasync { // the second entry is written and not synced
				fill(t, w, entries(1, 1, 1, 50), 1)
				killed = true
				err = w.StoreLog(entry(2, 1, 50))
			} else { // the segment that the cut begins is renamed and the folder not synced
				fill(t, w, entries(1, 3, 1, 50), 1)
				killed = true
				err = w.DeleteRange(3, 3)
			}
			if err == nil {
				t.Fatal("it was not killed")
			}
			w.Close()
			var list []string
			again, err := Open(Options{Dir: dir, FS: disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
				if op == disk.OpDatasync || op == disk.OpSyncDir {
					list = append(list, fmt.Sprint(op, " ", filepath.Base(path)))
				}
				return nil
			}}})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if last, err := again.LastIndex(); err != nil || last != want {
				t.Errorf("the log ends at %d, %v; want %d", last, err, want)
			}
			names := files(t, dir)
			if need := []string{"datasync " + filepath.Base(names[len(names)-1]), "syncdir " + filepath.Base(dir)}; !slices.Equal(list, need) {
				t.Errorf("Open made durable %q, want %q", list, need)
			}
			broken := errors.New("input/output error")
			if _, err := Open(Options{Dir: dir, FS: disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, _ string) error {
				if op == at {
					return broken
				}
				return nil
			}}}); !errors.Is(err, broken) {
				t.Errorf("a failed sync: %v", err)
			}
		})
	}
}

// A power cut at each step of filling, cutting and compacting leaves a log that opens, with every entry whose append had returned.
func TestStopAtEachStep(t *testing.T) {
	errStop := errors.New("stopped here")
	for stop := 1; ; stop++ {
		dir, steps := t.TempDir(), 0
		fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, _ string) error {
			if op == disk.OpRead {
				return nil
			}
			if steps++; steps >= stop {
				return errStop
			}
			return nil
		}}
		w, err := Open(Options{Dir: dir, FS: fsys})
		var have []*raft.Log
		run := func() error {
			for _, step := range []struct{ lo, hi, from, to uint64 }{{0, 0, 1, 8}, {6, 8, 6, 12}, {1, 3, 13, 14}, {4, 14, 40, 42}} {
				if step.lo > 0 {
					if err := w.DeleteRange(step.lo, step.hi); err != nil {
						have = have[:map[uint64]int{6: 5, 1: len(have), 4: 0}[step.lo]]
						return err
					}
					keep := have[:0:0]
					for _, l := range have {
						if l.Index < step.lo || l.Index > step.hi {
							keep = append(keep, l)
						}
					}
					have = keep
				}
				logs := entries(step.from, step.to, step.from, 150<<10)
				if err := w.StoreLogs(logs); err != nil {
					return err
				}
				have = append(have, logs...)
			}
			return nil
		}
		if err == nil {
			err = run()
			w.Close()
		}
		again, openErr := Open(Options{Dir: dir})
		if openErr != nil {
			t.Fatalf("stopped at step %d: %v", stop, openErr)
		}
		for _, l := range have {
			var got raft.Log
			if err := again.GetLog(l.Index, &got); err != nil || got.Term != l.Term || !bytes.Equal(got.Data, l.Data) {
				t.Fatalf("stopped at step %d: entry %d: term %d, %v", stop, l.Index, got.Term, err)
			}
		}
		again.Close()
		if err == nil {
			if stop < 20 {
				t.Fatalf("only %d steps", stop)
			}
			return
		}
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
	}
}

// FuzzScan reads any bytes as a segment's frames: it never gives entries that were not written in their order.
func FuzzScan(f *testing.F) {
	var b []byte
	for _, l := range entries(1, 4, 1, 40) {
		b = appendFrame(b, l, 9, sector)
	}
	f.Add(b, 3, byte(1))
	f.Add(b[:len(b)-9], 100, byte(0))
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, frames []byte, at int, x byte) {
		body := append(make([]byte, sector), frames...)
		body = append(body, make([]byte, 2*sector)...)
		if at >= 0 && at < len(body) {
			body[at] ^= x
		}
		s := &segment{header: header{first: 1, salt: 9, size: int64(len(body))}, end: sector}
		w := &Log{opt: Options{Logger: slog.New(slog.DiscardHandler)}, segments: []*segment{s}}
		if w.frames(s, body, 0) != nil {
			return
		}
		for i, off := range s.offsets {
			var l raft.Log
			if h, err := readFrame(body[off:], 9, &l); err != nil || h.index != uint64(i+1) {
				t.Fatalf("entry %d: %d, %v", i+1, h.index, err)
			}
		}
	})
}

// A sync that failed while the next file was prepared is not forgotten: the file is not made a second time and trusted.
func TestFailedSyncOfTheNextFileStopsTheLog(t *testing.T) {
	var failed atomic.Bool
	fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		if op == disk.OpDatasync && filepath.Base(path) == spareName && failed.CompareAndSwap(false, true) {
			return syscall.EIO
		}
		return nil
	}}
	dir := t.TempDir()
	openAt(t, dir).Close()
	w, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, w, entries(1, 4, 1, 100), 1) // the first file is there
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err = Open(Options{Dir: dir, FS: fsys}); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := uint64(5); i < 100 && err == nil; i++ {
		err = w.StoreLogs(entries(i, i, 1, 100<<10))
	}
	if !failed.Load() {
		t.Fatal("no file was prepared: the test proves nothing")
	}
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("the log goes on: %v", err)
	}
}

// A log whose segments are of format 1 is read, goes on in its newest one, and begins the next one in the present format.
func TestFormatOneIsRead(t *testing.T) {
	dir := t.TempDir()
	h := header{format: 1, log: 5, number: 1, first: 1, salt: 77, size: 64 << 10}
	body := h.encode()
	old := entries(1, 5, 1, 600)
	for _, l := range old {
		body = appendFrame(body, l, h.salt, uint32(len(body)))
	}
	body = append(body, make([]byte, h.size-int64(len(body)))...)
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), body, 0o600); err != nil {
		t.Fatal(err)
	}
	all := append(old, entries(6, 200, 1, 900)...)
	w := openAt(t, dir)
	fill(t, w, all[5:], 7)
	if err := holds(w, all, true); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = openAt(t, dir)
	if err := holds(w, all, true); err != nil {
		t.Error(err)
	}
	if n := len(w.segments); n < 2 || w.segments[0].format != 1 || w.segments[n-1].format != segmentFormat {
		t.Errorf("%d segments, the first of format %d, the last of %d", n, w.segments[0].format, w.segments[n-1].format)
	}
}
