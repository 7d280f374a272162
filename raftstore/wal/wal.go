package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"reconcile/internal/fp"
	"reconcile/raftstore/disk"
)

// Sizes of segments: the first is small, so that a new log costs little, and each is four times the one before, up to the largest.
const (
	firstSegment   = 1 << 20
	largestSegment = 16 << 20
	// keepBuffer is the size up to which the buffer of an append is used again.
	keepBuffer = 1 << 20
)

var (
	errChecksum = errors.New("the checksum does not match")
	// ErrDamaged tells that the disk does not hold what was written: the error around it names file and place.
	ErrDamaged = errors.New("the log is damaged")
	// ErrNoSpace tells that the disk is full and that nothing of the append was written: it may be tried again.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrClosed tells that the log was closed.
	ErrClosed = errors.New("the log is closed")
)

// Options say where a log is.
type Options struct {
	// Dir is the folder of the segments; it is made if it is not there.
	Dir string
	// FS is the file layer. Default disk.OS.
	FS disk.FS
	// ID is the log's identity, which every segment carries; one with another is refused. 0: that of the segments, or a new random one.
	ID uint64
	// Logger is told of what was cut off and of a full disk. Default: nowhere.
	Logger *slog.Logger
}

// Log is a raft.LogStore in segment files. One Log uses a folder at a time. Its methods may be called by many goroutines.
type Log struct {
	opt Options

	write sync.Mutex // held by whoever changes files; before mu
	buf   []byte
	tail  *tail // what a crash left behind the last entry, until the next append removes it
	err   error // the first failed write: nothing is written after it

	mu       sync.RWMutex
	segments []*segment // in order; the last one is written to. Empty before the first append
	first    uint64     // 0: no entry
	closed   bool

	spare    int64         // size of the file that is ready, 0 for none
	spareErr error         // why the last preparation failed
	making   chan struct{} // closed when the preparation under way has ended; nil for none
	wg       sync.WaitGroup
}

// tail is a piece of the newest segment that holds no entry and is not zero.
type tail struct{ from, to int64 }

// ID is the log's identity.
func (w *Log) ID() uint64 { return w.opt.ID }

// IsMonotonic implements raft.MonotonicLogStore: entries without gaps only.
func (w *Log) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore; 0 for an empty log.
func (w *Log) FirstIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.first, w.openLocked()
}

// LastIndex implements raft.LogStore; 0 for an empty log.
func (w *Log) LastIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.lastLocked(), w.openLocked()
}

func (w *Log) openLocked() error {
	if w.closed {
		return ErrClosed
	}
	return nil
}

func (w *Log) lastLocked() uint64 {
	if w.first == 0 {
		return 0
	}
	return w.segments[len(w.segments)-1].last()
}

// Held is the first entry that the files hold, deleted or not; 0 for none.
func (w *Log) Held() uint64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if len(w.segments) == 0 {
		return 0
	}
	return w.segments[0].first
}

// File is the path of the segment that holds an entry; empty if none does.
func (w *Log) File(index uint64) string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, s := range w.segments {
		if len(s.offsets) > 0 && s.first <= index && index <= s.last() {
			return s.path
		}
	}
	return ""
}

// Size is how many bytes the log's files take on disk.
func (w *Log) Size() int64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	n := w.spare
	for _, s := range w.segments {
		n += s.size
	}
	return n
}

// GetLog implements raft.LogStore. It returns raft.ErrLogNotFound, or ErrDamaged if the disk has changed the entry. The entry's bytes
// are the caller's.
func (w *Log) GetLog(index uint64, l *raft.Log) error {
	w.mu.RLock()
	defer w.mu.RUnlock() // keeps the file open
	if err := w.openLocked(); err != nil {
		return err
	}
	if w.first == 0 || index < w.first || index > w.lastLocked() {
		return raft.ErrLogNotFound
	}
	at, _ := slices.BinarySearchFunc(w.segments, index, func(s *segment, i uint64) int {
		if s.first <= i {
			return -1
		}
		return 1
	})
	s := w.segments[at-1]
	i := int(index - s.first)
	from, to := int64(s.offsets[i]), s.end
	if i+1 < len(s.offsets) {
		to = int64(s.offsets[i+1])
	}
	b := make([]byte, to-from)
	if n, err := s.file.ReadAt(b, from); n < len(b) {
		return fmt.Errorf("%w: %s: entry %d at byte %d cannot be read: %w", ErrDamaged, s.path, index, from, err)
	}
	whiten(b, s.mask())
	h, err := readFrame(b, s.salt, l)
	if err == nil && h.index != index {
		err = fmt.Errorf("it is entry %d", h.index)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: entry %d at byte %d: %w", ErrDamaged, s.path, index, from, err)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (w *Log) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Entries must follow each other, and the last one there is. They are durable on return; after an
// error other than ErrNoSpace nobody knows, and the log takes no more.
func (w *Log) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	w.write.Lock()
	defer w.write.Unlock()
	if err := w.mayAppend(logs); err != nil {
		return err
	}
	fit, err := w.room(logs)
	if err == nil && fit > 0 {
		err = w.flush(logs[:fit])
	}
	if err == nil && fit < len(logs) {
		// No way back from here: the first part may be written.
		if err = w.follow(logs[fit].Index); err == nil {
			err = w.flush(logs[fit:])
		}
	}
	if err != nil && !errors.Is(err, ErrNoSpace) {
		w.err = err
	}
	return err
}

func (w *Log) mayAppend(logs []*raft.Log) error {
	w.mu.RLock()
	closed, last := w.openLocked(), w.lastLocked()
	w.mu.RUnlock()
	if closed != nil {
		return closed
	}
	if w.err != nil {
		return fmt.Errorf("an earlier write failed: %w", w.err)
	}
	for i, l := range logs {
		if l.Index != logs[0].Index+uint64(i) || l.Index == 0 || (last > 0 && l.Index != last+1+uint64(i)) {
			return fmt.Errorf("entry %d does not follow entry %d", l.Index, last+uint64(i))
		}
		if frameSize(l) > maxFrame/2 {
			return fmt.Errorf("entry %d has %d bytes, more than a segment may hold", l.Index, frameSize(l))
		}
	}
	return nil
}

// room tells how many of the entries go into the newest segment. If not all do, the next segment's file is ready on return; if there
// is no space for it, nothing has been changed.
func (w *Log) room(logs []*raft.Log) (int, error) {
	if err := w.clean(); err != nil {
		return 0, err
	}
	fit, rest, size := 0, int64(0), int64(firstSegment)
	if n := len(w.segments); n > 0 {
		s := w.segments[n-1]
		size = min(4*s.size, largestSegment)
		if w.first != 0 || s.first == logs[0].Index {
			for end := s.end; fit < len(logs) && end+frameSize(logs[fit]) <= s.size; fit++ {
				end += frameSize(logs[fit])
			}
		}
	}
	if fit == len(logs) {
		return fit, nil
	}
	for _, l := range logs[fit:] {
		rest += frameSize(l)
	}
	return fit, w.ready(max(size, sector+rest))
}

// flush writes entries at the end of the newest segment and syncs.
func (w *Log) flush(logs []*raft.Log) error {
	s := w.segments[len(w.segments)-1]
	buf, offsets := w.buf[:0], make([]uint32, len(logs))
	for i, l := range logs {
		offsets[i] = uint32(s.end) + uint32(len(buf))
		buf = appendFrame(buf, l, s.salt, uint32(s.end))
	}
	whiten(buf, s.mask())
	if cap(buf) <= keepBuffer {
		w.buf = buf
	}
	if _, err := s.file.WriteAt(buf, s.end); err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	if err := s.file.Datasync(); err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	w.mu.Lock()
	s.offsets = append(s.offsets, offsets...)
	s.end += int64(len(buf))
	if w.first == 0 {
		w.first = s.first
	}
	w.mu.Unlock()
	if s.end > s.size/2 {
		w.prepareSoon(min(4*s.size, largestSegment))
	}
	return nil
}

// follow begins a segment for entries from index on. The spare file is ready.
func (w *Log) follow(index uint64) error {
	h := header{format: segmentFormat, log: w.opt.ID, number: 1, first: index, salt: random(), size: w.spareSize()}
	var void []*segment
	if n := len(w.segments); n > 0 {
		h.number = w.segments[n-1].number + 1
		for n > 0 && (w.first == 0 || w.segments[n-1].first >= index) {
			n--
		}
		void = w.segments[n:]
		if n > 0 {
			h.prevNumber, h.prevSalt = w.segments[n-1].number, w.segments[n-1].salt
		}
	}
	s, err := activate(w.opt.FS, w.opt.Dir, h)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.spare = 0
	keep := w.segments[: len(w.segments)-len(void) : len(w.segments)-len(void)]
	if n := len(keep); n > 0 && keep[n-1].last() >= index {
		last := keep[n-1]
		last.end = int64(last.offsets[index-last.first])
		last.offsets = last.offsets[:index-last.first]
	}
	w.segments = append(keep, s)
	w.mu.Unlock()
	return w.drop(void)
}

// drop removes files, the oldest first, so that what a crash leaves has no hole.
func (w *Log) drop(void []*segment) error {
	for _, s := range void {
		fp.Hit("raftstore/wal-drop")
		err := errors.Join(s.file.Close(), w.opt.FS.Remove(s.path))
		if err == nil {
			err = w.opt.FS.SyncDir(w.opt.Dir)
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", s.path, err)
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore: it deletes at the front, at the end, or all. At the front, files go when all their entries are
// deleted; after a restart the log may begin at an entry that was deleted before it. The end is cut durably.
func (w *Log) DeleteRange(lo, hi uint64) error {
	w.write.Lock()
	defer w.write.Unlock()
	w.mu.RLock()
	closed, first, last := w.openLocked(), w.first, w.lastLocked()
	w.mu.RUnlock()
	switch {
	case closed != nil:
		return closed
	case w.err != nil:
		return fmt.Errorf("an earlier write failed: %w", w.err)
	case first == 0 || lo > hi || hi < first || lo > last:
		return nil
	case hi >= last:
		return w.cut(max(lo, first), last)
	case lo > first:
		return fmt.Errorf("entries %d to %d are in the middle of the log, which has %d to %d", lo, hi, first, last)
	}
	n := 0
	for w.segments[n].last() <= hi {
		n++
	}
	void := w.segments[:n]
	w.mu.Lock()
	w.segments, w.first = slices.Clone(w.segments[n:]), hi+1
	w.mu.Unlock()
	return w.poison(w.drop(void))
}

// cut deletes the entries from index on by beginning a segment after the one before it.
func (w *Log) cut(index, last uint64) error {
	if err := w.clean(); err != nil {
		return w.poison(err)
	}
	if err := w.ready(firstSegment); err != nil {
		return err
	}
	begin := index
	if index == w.first {
		begin = last + 1
		w.mu.Lock()
		w.first = 0
		w.mu.Unlock()
	}
	return w.poison(w.follow(begin))
}

func (w *Log) poison(err error) error {
	if err != nil {
		w.err = err
	}
	return err
}

// clean overwrites what a crash left behind the last entry: a later frame in front of it must not make it look like damage.
func (w *Log) clean() error {
	if w.tail == nil {
		return nil
	}
	s := w.segments[len(w.segments)-1]
	if _, err := s.file.WriteAt(make([]byte, w.tail.to-w.tail.from), w.tail.from); err != nil {
		return fmt.Errorf("cut %s after its last entry: %w", s.path, err)
	}
	if err := s.file.Datasync(); err != nil {
		return fmt.Errorf("cut %s after its last entry: %w", s.path, err)
	}
	w.tail = nil
	return nil
}

// Close ends the log; waiting calls end first.
func (w *Log) Close() error {
	w.write.Lock()
	defer w.write.Unlock()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	for _, s := range w.segments {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.LittleEndian.Uint64(b[:]), 1)
}
