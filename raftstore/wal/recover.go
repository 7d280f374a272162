package wal

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

// Open reads a log: all of it, so that damage is found now and not when an entry is needed. It changes no entry, and what
// it found is durable on return. ErrDamaged if the
// files are not what was written; an interrupted last append is no damage, and is cut off.
func Open(opt Options) (*Log, error) {
	if opt.FS == nil {
		opt.FS = disk.OS{}
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Log{opt: opt}
	if err := opt.FS.MkdirAll(opt.Dir); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if err := w.recover(); err != nil {
		for _, s := range w.segments {
			s.file.Close()
		}
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if w.opt.ID == 0 {
		w.opt.ID = random()
	}
	return w, nil
}

func (w *Log) recover() error {
	names, err := w.opt.FS.List(w.opt.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == spareName {
			if err := w.opt.FS.Remove(filepath.Join(w.opt.Dir, name)); err != nil {
				return err
			}
			continue
		}
		number, ok := segmentNumber(name)
		if !ok {
			continue
		}
		s, err := w.openSegment(filepath.Join(w.opt.Dir, name), number)
		if err != nil {
			return err
		}
		w.segments = append(w.segments, s)
	}
	void, err := w.chain()
	if err != nil {
		return err
	}
	for i, s := range w.segments {
		limit := uint64(0)
		if i+1 < len(w.segments) {
			limit = w.segments[i+1].first
		}
		if err := w.scan(s, limit); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, s.path, err)
		}
		if w.first == 0 && len(s.offsets) > 0 {
			w.first = s.first
		}
	}
	if err := w.settle(); err != nil {
		return err
	}
	return w.drop(void)
}

// settle makes durable what was found. The process may have been killed between a write and its sync, or between the renaming of a segment and
// that of the folder: what is read then is in the kernel's memory alone, and raft counts it as written. Only the newest segment can have such a tail:
// the next one is begun after the sync of the one before it, or after this.
func (w *Log) settle() error {
	if n := len(w.segments); n > 0 {
		if err := w.segments[n-1].file.Datasync(); err != nil {
			return fmt.Errorf("make the end of %s durable: %w", w.segments[n-1].path, err)
		}
	}
	return w.opt.FS.SyncDir(w.opt.Dir)
}

func (w *Log) openSegment(path string, number uint64) (*segment, error) {
	size, err := w.opt.FS.Size(path)
	if err != nil {
		return nil, err
	}
	f, err := w.opt.FS.Open(path)
	if err != nil {
		return nil, err
	}
	b := make([]byte, sector)
	n, err := f.ReadAt(b, 0)
	h := header{}
	if n == len(b) {
		h, err = decodeHeader(b)
	}
	if err == nil {
		switch {
		case h.number != number:
			err = fmt.Errorf("it is segment %d under the name of segment %d", h.number, number)
		case h.size != size:
			err = fmt.Errorf("it has %d bytes, not %d: it was cut or added to", size, h.size)
		case w.opt.ID != 0 && h.log != w.opt.ID:
			err = fmt.Errorf("it belongs to the log %016x, not to %016x: it is another server's, or an older one", h.log, w.opt.ID)
		case h.first == 0 || h.size > maxFrame*2 || (h.prevNumber != 0 && h.prevNumber >= h.number):
			err = errors.New("its header makes no sense")
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	w.opt.ID = h.log
	return &segment{header: h, path: path, file: f, end: sector}, nil
}

// chain follows the segments from the newest back. Those that none of the newer ones names are void: a crash came between beginning
// a segment and removing what it made void. It leaves the chain in w.segments.
func (w *Log) chain() (void []*segment, err error) {
	if len(w.segments) == 0 {
		return nil, nil
	}
	all := w.segments
	i := len(all) - 1
	kept := []*segment{all[i]}
	for s := all[i]; s.prevNumber != 0; s = all[i] {
		for i--; i >= 0 && all[i].number > s.prevNumber; i-- {
			void = append(void, all[i])
		}
		if i < 0 {
			break // the log begins here: what came before was deleted
		}
		switch p := all[i]; {
		case p.number != s.prevNumber:
			return nil, fmt.Errorf("%w: %s: it is missing, and %s follows it", ErrDamaged, filepath.Join(w.opt.Dir, segmentName(s.prevNumber)), s.path)
		case p.salt != s.prevSalt:
			return nil, fmt.Errorf("%w: %s: it is not the file that %s follows: another was put in its place", ErrDamaged, p.path, s.path)
		case p.first >= s.first:
			return nil, fmt.Errorf("%w: %s: it begins at entry %d, and %s, which follows it, at %d", ErrDamaged, p.path, p.first, s.path, s.first)
		}
		kept = append(kept, all[i])
	}
	void = append(void, all[:max(i, 0)]...)
	slices.Reverse(kept)
	w.segments = kept
	slices.SortFunc(void, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return void, nil
}

// scan reads all frames of a segment. limit is the first index of the next segment, 0 for the newest one, whose end may be torn.
func (w *Log) scan(s *segment, limit uint64) error {
	b := make([]byte, s.size)
	if n, err := s.file.ReadAt(b, 0); n < len(b) {
		return err
	}
	return w.frames(s, b, limit)
}

// frames reads the frames in a segment's bytes, which it takes over.
func (w *Log) frames(s *segment, b []byte, limit uint64) error {
	whiten(b[sector:], s.mask())
	index := s.first
	var l raft.Log
	for limit == 0 || index < limit {
		h, err := readFrame(b[s.end:], s.salt, &l)
		if err == nil && h.index != index {
			err = fmt.Errorf("it is entry %d", h.index)
		}
		if err != nil && limit == 0 {
			return w.judge(s, b, index, err)
		}
		if err != nil {
			return fmt.Errorf("entry %d at byte %d: %w", index, s.end, err)
		}
		s.offsets = append(s.offsets, uint32(s.end))
		s.end += h.size()
		index++
	}
	return nil
}

// judge decides what the bytes behind the last good frame are: nothing, a torn append, or damage. They are damage if a frame of a later
// write follows, for that was begun only when this one was on the disk; or if no sector is missing, for a crash loses sectors and
// does not change them. What cannot be told apart is a last write of which whole sectors are missing because of a crash, and one of which the
// disk lost them later.
func (w *Log) judge(s *segment, b []byte, index uint64, cause error) error {
	from := s.end
	to := int64(len(b)) &^ (frameAlign - 1)
	for to > from && blank(b[to-frameAlign:to], s.mask()) {
		to -= frameAlign
	}
	if to == from {
		return nil
	}
	var l raft.Log
	for at := from + frameAlign; at < to; at += frameAlign {
		h, ok := readHead(b[at:], s.salt)
		if !ok || h.index <= index || int64(h.batch) <= from {
			continue
		}
		if _, err := readFrame(b[at:], s.salt, &l); err == nil {
			return fmt.Errorf("entry %d at byte %d: %w; entry %d follows it", index, from, cause, h.index)
		}
	}
	if !torn(b, from, s.header) {
		return fmt.Errorf("entry %d at byte %d: %w; no part of it is missing, so that it was changed", index, from, cause)
	}
	w.tail = &tail{from, to}
	w.opt.Logger.Warn("the last write to the log was interrupted; what there is of it is cut off", "file", s.path, "entry", index, "bytes", to-from)
	return nil
}

// torn tells whether a part of the frame at from, as far as one sector holds it, is missing.
func torn(b []byte, from int64, of header) bool {
	end := from + align(frameHeader)
	if h, ok := readHead(b[from:], of.salt); ok {
		end = from + h.size()
	}
	if end > int64(len(b)) {
		return true
	}
	for at := from; at < end; {
		next := min((at/sector+1)*sector, end)
		if blank(b[at:next], of.mask()) {
			return true
		}
		at = next
	}
	return false
}
