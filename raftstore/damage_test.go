package raftstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/klauspost/compress/zstd"
	"go.etcd.io/bbolt"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// written is what was acknowledged to the one who wrote it.
type written struct {
	keys  map[string]string
	blobs map[string]string // by digest
	term  uint64
	key   seal.Source // nil: not encrypted
}

// writeSome has a member write, restart, and take snapshots, and returns what it acknowledged. early gets a copy of the folder from halfway.
// body makes the values.
func writeSome(t *testing.T, dir, early, kind string, key seal.Source, body func(seed uint64, n int) string) written {
	t.Helper()
	w := written{key: key, keys: map[string]string{}, blobs: map[string]string{}}
	for round := range 4 {
		s := openOne(t, dir, nil, func(c *Config) { c.Log, c.SnapshotEntries, c.TrailingEntries, c.Key = kind, 1000, 10, w.key })
		for i := range 25 {
			key, value := fmt.Sprintf("/k/%d/%d", round, i), body(uint64(100*round+i), 12<<10)
			ops := []Op{put(key, value), put("/last", key)}
			if i%10 == 3 {
				blob := fmt.Sprint("blob ", key, value)
				digest, err := s.StageBlob(t.Context(), []byte(blob))
				if err != nil {
					t.Fatal(err)
				}
				ops = append(ops, Op{Kind: PutRef, Key: "/blob" + key, Value: []byte(digest)})
				w.blobs[digest] = blob
				w.keys["/blob"+key] = digest
			}
			propose(t, s, ops...)
			w.keys[key], w.keys["/last"] = value, key
		}
		if round < 3 {
			if err := s.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		w.term = s.Leader().Term
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			copyFolder(t, dir, early)
		}
	}
	return w
}

// unsynced is a disk that makes nothing durable: what is opened once to be read needs no syncs, and hundreds of them wait for whatever else is
// written on the machine.
type unsynced struct{ disk.OS }

type unsyncedFile struct{ disk.File }

func (u unsynced) Create(path string) (disk.File, error) {
	f, err := u.OS.Create(path)
	return unsyncedFile{f}, err
}

func (u unsynced) Open(path string) (disk.File, error) {
	f, err := u.OS.Open(path)
	return unsyncedFile{f}, err
}

func (unsynced) SyncDir(string) error { return nil }

func (unsyncedFile) Datasync() error { return nil }

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func listFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// read opens the folder, reads everything, and tells what was missing or different. The error is what the member said.
func (w written) read(dir string) (silent []string, err error) {
	_, transport := raft.NewInmemTransport("one")
	s, err := Open(Config{Dir: dir, FS: unsynced{}, ServerID: "one", Transport: transport, Heartbeat: 50 * time.Millisecond, TrailingEntries: 10, Key: w.key})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		changed := s.LeaderChanged()
		if err = s.Barrier(ctx); err == nil {
			break
		}
		select {
		case <-changed:
		case <-s.Failed():
			return nil, s.Run(ctx)
		case <-ctx.Done():
			return nil, fmt.Errorf("it does not lead: %w", err)
		}
	}
	if term := s.Leader().Term; term <= w.term {
		silent = append(silent, fmt.Sprintf("it leads in term %d, and has led in %d", term, w.term))
	}
	v := s.View()
	for key, value := range w.keys {
		if r, ok := v.Get(key); !ok || string(r.Value) != value {
			silent = append(silent, "key "+key)
		}
	}
	if v.Len() != len(w.keys) {
		silent = append(silent, fmt.Sprintf("%d keys, not %d", v.Len(), len(w.keys)))
	}
	var faults []error
	for digest, body := range w.blobs {
		got, err := s.Blob(digest)
		if err == nil && string(got) != body {
			silent = append(silent, "blob "+digest)
		}
		faults = append(faults, err)
	}
	return silent, errors.Join(faults...)
}

// damages are the ways to change a file. each gets the folder, the file's name, and a copy of the folder from an earlier time.
var damages = map[string]func(r *rand.Rand, dir, name, early string) error{
	"flipped bit": edit(func(r *rand.Rand, b []byte) []byte { b[place(r, b, 1)] ^= 1 << r.IntN(8); return b }),
	"zeroed page": edit(func(r *rand.Rand, b []byte) []byte { clear(cutAt(b, place(r, b, 4096), 4096)); return b }),
	"stale sector": edit(func(r *rand.Rand, b []byte) []byte {
		copy(cutAt(b, place(r, b, 512), 512), cutAt(b, place(r, b, 512), 512))
		return b
	}),
	"truncated": edit(func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(max(used(b), 1))] }),
	"emptied":   edit(func(*rand.Rand, []byte) []byte { return nil }),
	"deleted":   func(_ *rand.Rand, dir, name, _ string) error { return os.Remove(filepath.Join(dir, name)) },
	"older": func(_ *rand.Rand, dir, name, early string) error {
		b, err := os.ReadFile(filepath.Join(early, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	},
	"swapped": func(r *rand.Rand, dir, name, _ string) error {
		others, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Join(dir, name)), "*"))
		if err != nil {
			return err
		}
		path, other := filepath.Join(dir, name), others[r.IntN(len(others))]
		if st, err := os.Stat(other); err != nil || st.IsDir() || other == path {
			return err
		}
		return errors.Join(os.Rename(path, path+"~"), os.Rename(other, path), os.Rename(path+"~", other))
	},
}

func edit(f func(r *rand.Rand, b []byte) []byte) func(*rand.Rand, string, string, string) error {
	return func(r *rand.Rand, dir, name, _ string) error {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		return os.WriteFile(path, f(r, b), 0o600)
	}
}

// damageOne changes one file, drawn evenly from the parts of the folder, so that it is not what it was.
func damageOne(t *testing.T, r *rand.Rand, dir, kind, early string) (string, string) {
	t.Helper()
	parts := map[string][]string{}
	for _, name := range listFiles(t, dir) {
		part, _, _ := strings.Cut(name, "/")
		parts[part] = append(parts[part], name)
	}
	for range 100 {
		part := slices.Sorted(maps.Keys(parts))[r.IntN(len(parts))]
		name := parts[part][r.IntN(len(parts[part]))]
		before, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = damages[kind](r, dir, name, early)
		}
		if err != nil {
			t.Fatalf("%s of %s: %v", kind, name, err)
		}
		if after, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(before, after) {
			return name, kind
		}
	}
	t.Fatalf("%s: nothing to change", kind)
	return "", ""
}

// noise is text that is alike nowhere and the same at each call.
func noise(seed uint64, n int) string {
	b := make([]byte, n/2)
	rand.NewChaCha8([32]byte(append(binary.LittleEndian.AppendUint64(nil, seed), make([]byte, 24)...))).Read(b)
	return hex.EncodeToString(b)
}

// zeros is a value that looks as a page does that the disk has lost.
func zeros(_ uint64, n int) string { return string(make([]byte, n)) }

// used is the length of a file without the zeros at its end.
func used(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }

// place draws a place in the used part, aligned.
func place(r *rand.Rand, b []byte, unit int) int { return r.IntN(max(used(b), 1)) / unit * unit }

func cutAt(b []byte, at, n int) []byte { return b[at:min(at+n, len(b))] }

// F12 of the fault list: whatever a disk does to a file of a member that is down, its data is right or it says that it is not. The
// folders are those of a member that closed, and of one that was killed (a copy of the files as they are while it runs).
func TestNoDamageIsSilent(t *testing.T) {
	mutations := 500
	switch {
	case os.Getenv("FAULTS") == "nightly": // make soak
		mutations = 5000
	case testing.Short():
		mutations = 60
	}
	for _, tt := range []struct {
		name, kind string
		encrypted  bool
		body       func(uint64, int) string
		share      int // of 100
	}{
		{"wal", LogWAL, true, noise, 60},
		{"wal in the clear, zeros", LogWAL, false, zeros, 20},
		{"boltdb", LogBoltDB, false, noise, 12},
		{"boltdb, zeros", LogBoltDB, false, zeros, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, killed, early := t.TempDir(), t.TempDir(), t.TempDir()
			var key seal.Source
			if tt.encrypted {
				key = seal.File(filepath.Join(t.TempDir(), "outer.key"))
			}
			want := writeSome(t, base, early, tt.kind, key, tt.body)
			s := openOne(t, base, nil, func(c *Config) { c.Key = key })
			propose(t, s, put("/last", "of all"))
			want.keys["/last"], want.term = "of all", s.Leader().Term
			copyFolder(t, base, killed)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{base, killed} {
				if silent, err := want.read(cloneOf(t, dir)); err != nil || len(silent) > 0 {
					t.Fatalf("an undamaged folder: %v, %v", silent, err)
				}
			}
			damageMany(t, want, []string{base, killed}, early, mutations*tt.share/100)
		})
	}
}

func cloneOf(t *testing.T, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	copyFolder(t, dir, to)
	return to
}

func damageMany(t *testing.T, want written, bases []string, early string, n int) {
	kinds := []string{}
	for k := range damages {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	harmless, silents := 0, 0
	found := map[string]int{}
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 12))
		base := bases[i%len(bases)]
		dir := cloneOf(t, base)
		name, kind := damageOne(t, r, dir, kinds[i/len(bases)%len(kinds)], early)
		silent, err := want.read(dir)
		if err := os.RemoveAll(dir); err != nil { // before hundreds of them are written to the disk
			t.Fatal(err)
		}
		switch {
		case len(silent) > 0 && err == nil:
			silents++
			t.Errorf("mutation %d: %s of %s was not noticed: %s", i, kind, name, strings.Join(silent, ", "))
		case err != nil:
			found[filepath.Dir(name)+"/"+kind]++
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "join again") {
				t.Errorf("mutation %d: %s of %s: the error does not say what to do: %v", i, kind, name, err)
			}
		default:
			harmless++
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d mutations: %d noticed, %d harmless, %d silent", n, n-harmless-silents, harmless, silents)
	if harmless > n/2 {
		t.Errorf("%d of %d mutations changed nothing: the test proves little", harmless, n)
	}
}

// TestHoleInTheLog takes an entry out of the middle of the log: bbolt answers then that there is none, and raft panics at that. The
// member must refuse to serve and say what it misses.
func TestHoleInTheLog(t *testing.T) {
	dir := t.TempDir()
	w := writeSome(t, dir, t.TempDir(), LogBoltDB, nil, noise)
	db, err := bbolt.Open(filepath.Join(dir, stableName), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		logs := tx.Bucket([]byte("logs"))
		last, _ := logs.Cursor().Last()
		hole := binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(last)-2)
		if logs.Get(hole) == nil {
			return errors.New("no such entry")
		}
		return logs.Delete(hole)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.read(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("a log with a hole: %v, want ErrDamaged and what is missing", err)
	}
}

// A folder with a snapshot of the first version, which kept no history, is refused with what it is and what to do, and not changed.
func TestSnapshotOfTheFirstVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	// Such a folder has an identity without the folder's name, bbolt for log and vote, and raft's own files for snapshots.
	bolt, err := raftboltdb.NewBoltStore(filepath.Join(dir, stableName))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bolt.SetUint64([]byte(keyTerm), 2), bolt.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, identityName), []byte(`{"clusterID":"c","serverID":"one","term":2,"logTerm":2,"index":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	snaps, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	servers := raft.Configuration{Servers: []raft.Server{{ID: "one", Address: "one"}}}
	_, transport := raft.NewInmemTransport("one")
	sink, err := snaps.Create(raft.SnapshotVersionMax, 7, 2, servers, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sink, snapMagic); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(sink)
	if err != nil {
		t.Fatal(err)
	}
	fw := &frameWriter{w: bufio.NewWriter(z), sum: crc32.New(castagnoli)}
	fw.frame(frameHead, u64s(nil, 1, 0, 0))
	fw.frame(frameRecord, appendBytes(appendBytes(appendBool(u64s(nil, 1, 1, 1), false), []byte("/k")), []byte("v")))
	fw.frame(frameEnd, binary.BigEndian.AppendUint32(nil, fw.sum.Sum32()))
	if err := errors.Join(fw.err, fw.w.Flush(), z.Close(), sink.Close()); err != nil {
		t.Fatal(err)
	}
	before := listFiles(t, dir)
	_, err = Open(Config{Dir: dir, Transport: transport})
	if !errors.Is(err, errOlder) || !strings.Contains(fmt.Sprint(err), dir) || !strings.Contains(fmt.Sprint(err), "part 1") || strings.Contains(fmt.Sprint(err), "newer") {
		t.Errorf("the error is: %v", err)
	}
	if after := listFiles(t, dir); len(after) < len(before) {
		t.Errorf("the files were %v and are %v", before, after)
	}
}
