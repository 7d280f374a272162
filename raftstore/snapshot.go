package raftstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"

	"reconcile/internal/fp"
)

// A snapshot is a magic word and one zstd stream of frames: type u8, length u32, body. The last frame holds the CRC-32C of all
// bytes before it; a snapshot without it, or with another, is not taken over.
const (
	snapMagic = "reconcile-snapshot-1\n"

	frameHead    = 'h' // rev, stamp, floor: 3 * u64
	frameVersion = 'v' // flags u8; modRev, createRev, version, lease u64; sub u32; uvarint key, value: of each key, oldest first
	frameTouch   = 't' // uvarint key; time u64
	framePlace   = 'p' // uvarint key; index, term, first, last u64
	frameLease   = 'l' // id, ttl, granted, remaining u64
	frameMoment  = 'm' // stamp, rev, bytes u64; the last one has only bytes: those since
	frameBlob    = 'b' // size, have u64; staged i64; done u8; uvarint digest; of one that is not done the bytes so far follow in frameBytes
	frameBytes   = 'd' // the next bytes of the blob
	frameOutcome = 'o' // node, nonce, first, last u64; refused u8; uvarint reason
	frameEnd     = 'e' // crc32c u32
	frameRecord  = 'r' // a key of a snapshot from before history was kept: errOlder

	// frameKinds are those that may stand before the end.
	frameKinds = string(frameHead) + string(frameVersion) + string(frameTouch) + string(framePlace) + string(frameLease) + string(frameMoment) +
		string(frameBlob) + string(frameBytes) + string(frameOutcome)

	maxFrame = 128 << 20
)

// snapshot is a frozen state on its way to disk. It implements raft.FSMSnapshot.
type snapshot struct {
	st      *state
	blobs   Blobs
	release func(rev uint64, held []string)
	held    []string // the complete blobs that it names, once it is durable
	noted   func()   // nil: nobody wants to know that raft has done with it
}

// The flags of a version.
const (
	versionRef = 1 << iota
	versionTomb
	// versionOld is one that has a successor.
	versionOld
)

// freeze is a copy that later changes of s do not touch, as long as collect waits.
func (s *state) freeze() *state {
	f := *s
	f.tables, f.versions, f.touches, f.places = s.tables.clone(), s.versions.freeze(), s.touches.clone(), s.places.clone()
	f.outcomes, f.order = maps.Clone(s.outcomes), slices.Clone(s.order)
	f.blobs = make(map[string]*blobInfo, len(s.blobs))
	for d, b := range s.blobs {
		c := *b
		c.pieces = slices.Clip(b.pieces)
		f.blobs[d] = &c
	}
	return &f
}

// digest is the SHA-256 of everything that members hold alike, blobs by their digests: equal for equal states, also where one has
// taken out of memory what the history no longer shows. s must be frozen or locked.
func (s *state) digest() string {
	h := sha256.New()
	fw := &frameWriter{w: bufio.NewWriterSize(h, 64<<10), sum: crc32.New(castagnoli)}
	(&snapshot{st: s}).frames(fw)
	_ = fw.w.Flush() // a hash does not fail
	return hex.EncodeToString(h.Sum(nil))
}

// Persist implements raft.FSMSnapshot; it runs beside Apply. The blobs that the snapshot names are durable before it is.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if k, ok := sink.(*turnSink); ok {
		s.noted = k.mine()
	}
	named := s.st.whole()
	err := s.blobs.Sync(named)
	fp.Hit("raftstore/snapshot-blobs")
	if err := errors.Join(err, s.write(sink)); err != nil {
		return errors.Join(fmt.Errorf("write a snapshot: %w", err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	s.held = named
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {
	s.release(s.st.rev, s.held)
	if s.noted != nil {
		s.noted()
	}
}

// whole are the complete blobs.
func (s *state) whole() []string {
	out := slices.AppendSeq([]string{}, maps.Keys(s.named())) // not nil, which would say that the snapshot is not durable
	slices.Sort(out)
	return out
}

// named are the complete blobs with their sizes.
func (s *state) named() map[string]uint64 {
	out := map[string]uint64{}
	for digest, b := range s.blobs {
		if b.done {
			out[digest] = b.size
		}
	}
	return out
}

func (s *snapshot) write(w io.Writer) error {
	if _, err := io.WriteString(w, snapMagic); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return errors.Join(s.writeFrames(z), z.Close())
}

// writeFrames writes all frames and the one that ends them.
func (s *snapshot) writeFrames(w io.Writer) error {
	fw := &frameWriter{w: bufio.NewWriterSize(w, 64<<10), sum: crc32.New(castagnoli)}
	s.frames(fw)
	if fw.err == nil {
		fw.frame(frameEnd, binary.BigEndian.AppendUint32(nil, fw.sum.Sum32()))
	}
	return errors.Join(fw.err, fw.w.Flush())
}

func (s *snapshot) frames(fw *frameWriter) {
	st := s.st
	fw.frame(frameHead, u64s(nil, st.rev, uint64(st.stamp), st.floor.Load()))
	for _, digest := range slices.Sorted(maps.Keys(st.blobs)) {
		s.blob(fw, digest, st.blobs[digest])
	}
	st.leases.Ascend(func(l *Lease) bool {
		fw.frame(frameLease, u64s(nil, uint64(l.ID), uint64(l.TTL), l.Granted, uint64(l.Remaining)))
		return fw.err == nil
	})
	for _, m := range st.moments {
		fw.frame(frameMoment, u64s(nil, uint64(m.stamp), m.rev, m.bytes))
	}
	fw.frame(frameMoment, u64s(nil, st.since))
	s.versions(fw)
	for _, key := range slices.Sorted(maps.Keys(st.touches.m)) {
		fw.frame(frameTouch, binary.BigEndian.AppendUint64(appendBytes(nil, []byte(key)), uint64(st.touches.m[key])))
	}
	for _, key := range slices.Sorted(maps.Keys(st.places.m)) {
		fw.frame(framePlace, appendPlace(nil, key, st.places.m[key]))
	}
	var buf []byte
	for _, o := range st.order {
		out := st.outcomes[o]
		buf = appendBool(u64s(buf[:0], o.node, o.nonce, out.First, out.Last), out.Refused)
		fw.frame(frameOutcome, appendBytes(buf, []byte(out.Reason)))
	}
}

// versions writes what the history shows of every key.
func (s *snapshot) versions(fw *frameWriter) {
	var buf []byte
	var chain []*Record
	write := func(newest *Record) bool {
		chain = chain[:0]
		s.st.shown(newest, func(r *Record) { chain = append(chain, r) })
		for i, r := range slices.Backward(chain) {
			buf = appendVersion(buf[:0], r, i > 0)
			fw.frame(frameVersion, buf)
		}
		return fw.err == nil
	}
	s.st.keys.Ascend(write)
	s.st.graves.Ascend(write)
}

func appendVersion(buf []byte, r *Record, old bool) []byte {
	var flags byte
	if r.ref {
		flags |= versionRef
	}
	if r.tomb {
		flags |= versionTomb
	}
	if old {
		flags |= versionOld
	}
	buf = u64s(append(buf, flags), r.ModRev, r.CreateRev, r.Version, uint64(r.Lease))
	buf = binary.BigEndian.AppendUint32(buf, r.sub)
	return appendBytes(append(binary.AppendUvarint(buf, uint64(len(r.Key))), r.Key...), r.Value)
}

func (s *snapshot) blob(fw *frameWriter, digest string, b *blobInfo) {
	fw.frame(frameBlob, appendBytes(appendBool(u64s(nil, b.size, b.have, uint64(b.staged)), b.done), []byte(digest)))
	for piece := range slices.Chunk(b.pieces, chunkSize) {
		fw.frame(frameBytes, piece)
	}
}

// openFrames begins to read a snapshot's frames; close ends it.
func openFrames(r io.Reader) (fr frameReader, end func(), err error) {
	magic := make([]byte, len(snapMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return fr, nil, fmt.Errorf("read its beginning: %w", err)
	}
	if string(magic) != snapMagic {
		return fr, nil, fmt.Errorf("it begins with %q, not with %q: it is damaged or of another version", magic, snapMagic)
	}
	file := newReadAhead(r)
	z, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1))
	if err != nil {
		file.Close()
		return fr, nil, err
	}
	plain := newReadAhead(z)
	end = func() {
		plain.Close()
		z.Close()
		file.Close()
	}
	return frameReader{r: plain, sum: crc32.New(castagnoli)}, end, nil
}

// readSnapshot reads a whole snapshot into st, a new state, and its blobs into the folder (which harms nothing if it fails later).
func readSnapshot(r io.Reader, st *state, blobs Blobs) (*state, error) {
	fr, end, err := openFrames(r)
	if err != nil {
		return nil, err
	}
	defer end()
	return readFrames(fr, st, blobs)
}

func readFrames(fr frameReader, st *state, blobs Blobs) (*state, error) {
	l := &snapLoader{st: st, blobs: blobs, fr: fr}
	for !l.ended {
		kind, body, err := l.fr.next()
		if err != nil {
			return nil, fmt.Errorf("read a frame: %w", err)
		}
		if err := l.frame(kind, body); err != nil {
			return nil, err
		}
	}
	return l.st, nil
}

// checkSnapshot reads a whole snapshot and keeps nothing of it but which blobs it names without their bytes, with their sizes: its frames are of kinds
// that this version knows, and the checksum over all of them fits.
func checkSnapshot(r io.Reader) (named map[string]uint64, err error) {
	fr, end, err := openFrames(r)
	if err != nil {
		return nil, err
	}
	defer end()
	named = map[string]uint64{}
	last := "" // the blob that the frame before began
	for {
		kind, body, err := fr.next()
		if err != nil {
			return nil, fmt.Errorf("read a frame: %w", err)
		}
		switch {
		case kind == frameEnd:
			return named, fr.ends(body)
		case strings.IndexByte(frameKinds, kind) < 0:
			return nil, unknownFrame(kind)
		case kind == frameBytes:
			delete(named, last)
		case kind == frameBlob:
			digest, info, err := readBlobInfo(body)
			if err != nil {
				return nil, err
			}
			if last = digest; info.done {
				named[digest] = info.size
			}
		}
	}
}

// readBlobInfo reads a frameBlob.
func readBlobInfo(b []byte) (digest string, info *blobInfo, err error) {
	d := fieldReader{b: b}
	info = &blobInfo{size: d.u64(), have: d.u64(), staged: int64(d.u64()), done: d.bool()}
	return string(d.bytes()), info, d.err
}

// unknownFrame says of which version a snapshot is that this one cannot read.
func unknownFrame(kind byte) error {
	if kind == frameRecord {
		return errOlder
	}
	return fmt.Errorf("%w: frame of type %q", errNewer, kind)
}

// ends checks the last frame, which holds the checksum of all before it.
func (f *frameReader) ends(body []byte) error {
	if len(body) != 4 || binary.BigEndian.Uint32(body) != f.before {
		return fmt.Errorf("%w: it says %x, its bytes make %08x", errChecksum, body, f.before)
	}
	return nil
}

// snapLoader builds a state from frames.
type snapLoader struct {
	st     *state
	blobs  Blobs
	fr     frameReader
	digest string // of the blob being read
	body   []byte
	ended  bool
	prev   *Record // the version before the next one, if that is of the same key
}

func (l *snapLoader) frame(kind byte, b []byte) error {
	if kind != frameBytes && l.digest != "" {
		if err := l.endBlob(); err != nil {
			return err
		}
	}
	d := fieldReader{b: b}
	switch kind {
	case frameHead:
		l.st.rev, l.st.stamp = d.u64(), int64(d.u64())
		l.st.floor.Store(d.u64())
	case frameVersion:
		return l.version(&d)
	case frameTouch:
		l.st.touches.m[string(d.bytes())] = int64(d.u64())
	case framePlace:
		l.st.places.m[string(d.bytes())] = Place{Index: d.u64(), Term: d.u64(), First: d.u64(), Last: d.u64()}
	case frameLease:
		l.st.leases.ReplaceOrInsert(&Lease{ID: int64(d.u64()), TTL: int64(d.u64()), Granted: d.u64(), Remaining: int64(d.u64())})
	case frameMoment:
		if len(b) == 8 {
			l.st.since = d.u64()
		} else {
			l.st.moments = append(l.st.moments, moment{int64(d.u64()), d.u64(), d.u64()})
		}
	case frameBlob:
		digest, info, err := readBlobInfo(b)
		if err != nil {
			return err
		}
		l.digest, l.body = digest, nil
		l.st.blobs[l.digest] = info
	case frameBytes:
		l.body = append(l.body, b...)
	case frameOutcome:
		o := origin{d.u64(), d.u64()}
		out := Outcome{First: d.u64(), Last: d.u64(), Refused: d.bool()}
		out.Reason = string(d.bytes())
		l.st.remember(o, out)
	case frameEnd:
		if err := l.fr.ends(b); err != nil {
			return err
		}
		l.st.adopt()
		l.ended = true
	default:
		return unknownFrame(kind)
	}
	return d.err
}

// version adds one version of a key behind those before it.
func (l *snapLoader) version(d *fieldReader) error {
	flags := d.take(1)[0]
	r := &Record{ModRev: d.u64(), CreateRev: d.u64(), Version: d.u64(), Lease: int64(d.u64()), sub: binary.BigEndian.Uint32(d.take(4))}
	r.Key = string(d.bytes())
	if value := d.bytes(); flags&versionTomb == 0 {
		r.Value = bytes.Clone(value) // of its own size: the frame around it would live as long
	}
	r.ref, r.tomb = flags&versionRef != 0, flags&versionTomb != 0
	if d.err != nil {
		return d.err
	}
	prev := l.prev
	if l.prev = nil; flags&versionOld != 0 {
		l.prev = r
	}
	if prev != nil {
		r.Key = prev.Key
		r.prev.Store(prev)
	}
	if prev != nil || r.tomb {
		l.st.heirs = append(l.st.heirs, r)
	}
	switch {
	case flags&versionOld != 0:
	case r.tomb:
		l.st.graves.ReplaceOrInsert(r)
	case r.ref && l.st.blobs[string(r.Value)] == nil:
		return fmt.Errorf("key %s names the blob %s, which the snapshot lacks", r.Key, r.Value)
	default:
		l.st.keys.ReplaceOrInsert(r)
		l.st.link(r)
	}
	return nil
}

func (l *snapLoader) endBlob() error {
	info, digest := l.st.blobs[l.digest], l.digest
	l.digest = ""
	if info.done && len(l.body) == 0 {
		return nil // it stands in the folder, or is fetched
	}
	if uint64(len(l.body)) != info.have {
		return fmt.Errorf("blob %s has %d bytes of %d", digest, len(l.body), info.have)
	}
	if !info.done {
		info.pieces = l.body
		return nil
	}
	if Digest(l.body) != digest {
		return fmt.Errorf("blob %s: its bytes have another digest", digest)
	}
	return l.blobs.Put(digest, l.body)
}

// frameWriter writes frames and keeps the first error.
type frameWriter struct {
	w   *bufio.Writer
	sum hash.Hash32
	err error
}

func (f *frameWriter) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *frameWriter) frame(kind byte, body []byte) {
	if f.err != nil {
		return
	}
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	f.sum.Write(head[:])
	f.sum.Write(body)
	_, err := f.w.Write(head[:])
	f.fail(err)
	_, err = f.w.Write(body)
	f.fail(err)
}

// frameReader reads frames; before is the checksum of all bytes before the last frame read.
type frameReader struct {
	r      io.Reader
	sum    hash.Hash32
	before uint32
	// head and body are those of the last frame.
	head [5]byte
	body []byte
}

// smallFrame is up to which size frames share their memory.
const smallFrame = 64 << 10

// next reads a frame, which is the caller's until the next call.
func (f *frameReader) next() (byte, []byte, error) {
	f.before = f.sum.Sum32()
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(f.head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is over %d", n, maxFrame)
	}
	var body []byte
	if n > smallFrame {
		body = make([]byte, n)
	} else {
		f.body = slices.Grow(f.body[:0], int(n))
		body = f.body[:n]
	}
	if _, err := io.ReadFull(f.r, body); err != nil {
		return 0, nil, err
	}
	f.sum.Write(f.head[:])
	f.sum.Write(body)
	return f.head[0], body, nil
}

// fieldReader takes fields off a frame and keeps the first error.
type fieldReader struct {
	b   []byte
	err error
}

func (d *fieldReader) take(n int) []byte {
	if d.err != nil || len(d.b) < n {
		d.err = errors.Join(d.err, errors.New("a frame is too short"))
		return make([]byte, n)
	}
	head := d.b[:n]
	d.b = d.b[n:]
	return head
}

func (d *fieldReader) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }
func (d *fieldReader) bool() bool  { return d.take(1)[0] != 0 }

func (d *fieldReader) bytes() []byte {
	head, rest, ok := cutBytes(d.b)
	if d.err != nil || !ok {
		d.err = errors.Join(d.err, errors.New("a frame is cut in a field"))
		return nil
	}
	d.b = rest
	return head
}

func u64s(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendBytes(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}
