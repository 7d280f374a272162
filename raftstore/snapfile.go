package raftstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/internal/fp"
	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// snapFolder is a raft.SnapshotStore: one file a snapshot, the newest one kept. raft's own has no checksum over its description (index,
// term, members), passes over a snapshot that it cannot read, and begins an older one instead; here that is an error.
//
// A file is: magic | length u32 | description (JSON) | crc32c of these | blocks: length u32 (the last one's has the top bit set) | bytes |
// crc32c of the description's, the block's number, length and bytes. If the folder is encrypted, so is each block. It is written under another name first, synced, and renamed.
type snapFolder struct {
	fs     disk.FS
	dir    string
	folder string     // the identity's
	ring   *seal.Ring // nil: not encrypted
	taken  func(position) error
	// bring gets the blobs that a snapshot from elsewhere names, with their sizes. It blocks.
	bring func(named map[string]uint64, of *raft.SnapshotMeta) error
	// sick stops the member: after a failed sync nobody knows what is on the disk. Nil: nobody is to stop.
	sick func(what string, err error) error
	log  *slog.Logger

	mu   sync.Mutex
	size int64
}

const (
	snapFileMagic = "rcnsnap1"
	snapSuffix    = ".snap"
	snapBlock     = 256 << 10
	snapLast      = 1 << 31
	maxSnapHead   = 16 << 20
)

// snapHead is what a snapshot's file says of it.
type snapHead struct {
	Folder string            `json:"folder"`
	Meta   raft.SnapshotMeta `json:"meta"`
	// Sealed is how many bytes longer a block is because it is encrypted; 0 if it is not.
	Sealed int64 `json:"sealed,omitempty"`
}

func snapName(term, index uint64, at time.Time) string {
	return fmt.Sprintf("%016x-%016x-%016x", term, index, at.UnixNano())
}

func (s *snapFolder) path(id string) string { return filepath.Join(s.dir, id+snapSuffix) }

// Create implements raft.SnapshotStore.
func (s *snapFolder) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("snapshots of version %d are not known", version)
	}
	meta := raft.SnapshotMeta{Version: version, ID: snapName(term, index, time.Now()), Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex}
	head := snapHead{Folder: s.folder, Meta: meta}
	if s.ring != nil {
		head.Sealed = seal.Overhead
	}
	return s.begin(head)
}

// begin makes the file of a snapshot, to be filled.
func (s *snapFolder) begin(h snapHead) (*snapSink, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint32([]byte(snapFileMagic), uint32(len(body)))
	head = append(head, body...)
	sum := crc32.Checksum(head, castagnoli)
	head = binary.LittleEndian.AppendUint32(head, sum)
	fp.Hit("raftstore/snapshot-create")
	f, err := s.fs.Create(s.path(h.Meta.ID) + ".tmp")
	if err != nil {
		return nil, fmt.Errorf("make a snapshot: %w", err)
	}
	k := &snapSink{s: s, meta: h.Meta, file: f, sum: sum, buf: make([]byte, 4, 4+snapBlock+4)}
	if err := k.put(head); err != nil {
		return nil, errors.Join(err, k.Cancel())
	}
	return k, nil
}

// snapSink writes one snapshot. It implements raft.SnapshotSink.
type snapSink struct {
	s      *snapFolder
	meta   raft.SnapshotMeta
	file   disk.File
	at     int64
	sum    uint32
	blocks uint64
	buf    []byte // 4 bytes for the length, then what is not written yet
	done   bool
	own    bool // of this member's state; else it came from another member
}

// ID implements raft.SnapshotSink.
func (k *snapSink) ID() string { return k.meta.ID }

func (k *snapSink) put(b []byte) error {
	n, err := k.file.WriteAt(b, k.at)
	k.at += int64(n)
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

// Write implements io.Writer.
func (k *snapSink) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(k.buf) == 4+snapBlock {
			if err := k.block(0); err != nil {
				return 0, err
			}
		}
		m := min(len(p), 4+snapBlock-len(k.buf))
		k.buf, p = append(k.buf, p[:m]...), p[m:]
	}
	return n, nil
}

func (k *snapSink) block(flag uint32) error {
	b := k.buf
	if k.s.ring != nil {
		b = k.s.ring.Seal(make([]byte, 4, 4+len(k.buf)+seal.Overhead), k.buf[4:], blockPlace(k.sum, k.blocks, flag))
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4)|flag)
	b = binary.LittleEndian.AppendUint32(b, blockSum(k.sum, k.blocks, b))
	k.blocks++
	k.buf = k.buf[:4]
	err := k.put(b)
	fp.Hit("raftstore/snapshot-block")
	return err
}

// blockPlace is what an encrypted block is bound to.
func blockPlace(head uint32, number uint64, flag uint32) []byte {
	b := binary.LittleEndian.AppendUint32([]byte("snapshot"), head)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(b, number), flag)
}

func blockSum(head uint32, number uint64, b []byte) uint32 {
	var n [12]byte
	binary.LittleEndian.PutUint32(n[:], head)
	binary.LittleEndian.PutUint64(n[4:], number)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, b)
}

// Close implements raft.SnapshotSink: the snapshot is durable on return, and older ones are gone. One that came from elsewhere is read
// through, and the blobs that it names are brought, before it takes their place: what is damaged, written by a newer version or lacks a blob could not
// be restored at the next start.
func (k *snapSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	fp.Hit("raftstore/snapshot-close")
	path := k.s.path(k.meta.ID)
	if err := k.finish(path + ".tmp"); err != nil {
		// Left where it cannot be removed: the next start sweeps it.
		return errors.Join(fmt.Errorf("finish snapshot %s: %w", path, err), k.s.fs.Remove(path+".tmp"))
	}
	fp.Hit("raftstore/snapshot-rename")
	err := k.s.fs.Rename(path+".tmp", path)
	if err == nil {
		fp.Hit("raftstore/snapshot-syncdir")
		err = k.s.unsynced(k.s.fs.SyncDir(k.s.dir))
	}
	if err == nil {
		fp.Hit("raftstore/snapshot-taken")
		err = k.s.taken(position{k.meta.Term, k.meta.Index})
	}
	if err != nil {
		return fmt.Errorf("finish snapshot %s: %w", path, err)
	}
	fp.Hit("raftstore/snapshot-reap")
	k.s.reap(k.meta.ID, k.at)
	return nil
}

// unsynced stops the member if a sync failed. A full disk is no reason: the file goes away, and the next snapshot is another one.
func (s *snapFolder) unsynced(err error) error {
	if err == nil || s.sick == nil || disk.NoSpace(err) {
		return err
	}
	return s.sick("make a snapshot durable", err)
}

// finish writes the last block and makes the file durable. One that came from elsewhere is read, and its blobs are brought.
func (k *snapSink) finish(path string) error {
	err := k.block(snapLast)
	if err == nil {
		fp.Hit("raftstore/snapshot-sync")
		err = k.s.unsynced(k.file.Datasync())
	}
	if err = errors.Join(err, k.file.Close()); err != nil || k.own {
		return err
	}
	fp.Hit("raftstore/snapshot-received")
	_, r, err := k.s.openAt(path, k.meta.ID)
	if err != nil {
		return err
	}
	named, err := checkSnapshot(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what the frames' end leaves of the last blocks
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return k.s.bring(named, &k.meta)
}

// Cancel implements raft.SnapshotSink.
func (k *snapSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	return errors.Join(k.file.Close(), k.s.fs.Remove(k.s.path(k.meta.ID)+".tmp"))
}

// reap removes all but the newest snapshot, which may be another than the one that was just finished, of the given size. One that is being
// read stays readable.
func (s *snapFolder) reap(finished string, size int64) {
	ids, err := s.ids()
	if len(ids) > 0 && ids[0] == finished {
		s.mu.Lock()
		s.size = size
		s.mu.Unlock()
	}
	for i, id := range ids {
		if i > 0 && err == nil {
			err = s.fs.Remove(s.path(id))
		}
	}
	if err != nil {
		s.log.Warn("an old snapshot could not be removed; the next one tries again", "error", err)
	}
}

// ids are the names of the finished snapshots, the newest first.
func (s *snapFolder) ids() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var ids []string
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, snapSuffix); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(b, a) })
	return ids, nil
}

// sweep removes what a crash left half written.
func (s *snapFolder) sweep() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, snapSuffix+".tmp") {
			if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// List implements raft.SnapshotStore: the newest snapshot. An older one is not offered in the place of one that cannot be read.
func (s *snapFolder) List() ([]*raft.SnapshotMeta, error) {
	ids, err := s.ids()
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	meta, r, err := s.open(ids[0])
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{meta}, r.Close()
}

// Open implements raft.SnapshotStore. What is read is checked block by block: an error comes before a byte that is wrong.
func (s *snapFolder) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, r, nil
}

func (s *snapFolder) open(id string) (*raft.SnapshotMeta, *snapReader, error) {
	return s.openAt(s.path(id), id)
}

// openAt opens the snapshot id, which may not have its own name yet.
func (s *snapFolder) openAt(path, id string) (*raft.SnapshotMeta, *snapReader, error) {
	size, err := s.fs.Size(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.fs.Open(path)
	if err != nil {
		return nil, nil, err
	}
	r := &snapReader{path: path, file: f, size: size, ring: s.ring}
	meta, err := r.head(id, s.folder)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("snapshot %s: %w", path, damaged(err))
	}
	return meta, r, nil
}

// snapReader reads a snapshot's blocks.
type snapReader struct {
	path   string
	file   disk.File
	size   int64
	at     int64
	sum    uint32
	blocks uint64
	ring   *seal.Ring
	sealed int64
	rest   []byte
	last   bool
	err    error
}

func (r *snapReader) take(n int64) ([]byte, error) {
	if n > r.size-r.at {
		return nil, errors.New("it is cut")
	}
	b := make([]byte, n)
	if m, err := r.file.ReadAt(b, r.at); m < len(b) {
		return nil, err
	}
	r.at += n
	return b, nil
}

func (r *snapReader) head(id, folder string) (*raft.SnapshotMeta, error) {
	b, err := r.take(int64(len(snapFileMagic)) + 4)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(b[len(snapFileMagic):])
	if string(b[:len(snapFileMagic)]) != snapFileMagic || n > maxSnapHead {
		return nil, errors.New("it does not begin as a snapshot does")
	}
	rest, err := r.take(int64(n) + 4)
	if err != nil {
		return nil, err
	}
	r.sum = crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, rest[:n])
	if binary.LittleEndian.Uint32(rest[n:]) != r.sum {
		return nil, errChecksum
	}
	var h snapHead
	d := json.NewDecoder(bytes.NewReader(rest[:n]))
	if err := d.Decode(&h); err != nil {
		return nil, err
	}
	switch {
	case h.Meta.ID != id:
		return nil, fmt.Errorf("it is the snapshot %s under another name", h.Meta.ID)
	case folder != "" && h.Folder != folder:
		return nil, errors.New("it is of another folder")
	case h.Sealed != 0 && (h.Sealed != seal.Overhead || r.ring == nil):
		return nil, errors.New("it is encrypted, and the folder is not")
	}
	r.sealed = h.Sealed
	return &h.Meta, r.measure(&h.Meta)
}

// measure finds out how many bytes the blocks hold: raft tells it to the member that the snapshot is sent to.
func (r *snapReader) measure(m *raft.SnapshotMeta) error {
	frame := 8 + r.sealed
	body := r.size - r.at
	full := body / (snapBlock + frame)
	rest := body - full*(snapBlock+frame)
	if body < frame || (rest > 0 && rest < frame) {
		return errors.New("it is cut")
	}
	m.Size = body - frame*full
	if rest > 0 {
		m.Size -= frame
	}
	return nil
}

// key is the ID of the data key that the snapshot is encrypted with; 0 for none.
func (r *snapReader) key() (uint32, error) {
	b := make([]byte, 8)
	if n, err := r.file.ReadAt(b, r.at); r.sealed > 0 && n < len(b) {
		return 0, fmt.Errorf("snapshot %s: %w", r.path, errors.Join(damaged(errors.New("it is cut")), err))
	}
	if r.sealed == 0 {
		return 0, nil
	}
	return seal.KeyOf(b[4:]), nil
}

// Read implements io.Reader.
func (r *snapReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err == nil {
			r.err = r.next()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *snapReader) next() error {
	if r.last {
		return io.EOF
	}
	fail := func(err error) error { return fmt.Errorf("snapshot %s: block %d: %w", r.path, r.blocks, damaged(err)) }
	head, err := r.take(4)
	if err != nil {
		return fail(err)
	}
	n := binary.LittleEndian.Uint32(head)
	r.last = n&snapLast != 0
	n &^= snapLast
	if whole := uint32(snapBlock + r.sealed); n > whole || (n < whole && !r.last) {
		return fail(errChecksum)
	}
	body, err := r.take(int64(n) + 4)
	if err != nil {
		return fail(err)
	}
	if blockSum(r.sum, r.blocks, append(head, body[:n]...)) != binary.LittleEndian.Uint32(body[n:]) {
		return fail(errChecksum)
	}
	if r.last && r.at != r.size {
		return fail(errors.New("bytes follow the last block"))
	}
	r.rest = body[:n]
	if r.sealed > 0 {
		flag := uint32(0)
		if r.last {
			flag = snapLast
		}
		if r.rest, err = r.ring.Open(body[:n], blockPlace(r.sum, r.blocks, flag)); err != nil {
			return fail(err)
		}
	}
	r.blocks++
	return nil
}

// Close implements io.Closer.
func (r *snapReader) Close() error { return r.file.Close() }
