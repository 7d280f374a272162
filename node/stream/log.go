package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// pollInterval is how often a followed log is looked at.
const pollInterval = 50 * time.Millisecond

// AwaitLog is ReadLog of a container that has begun: one that has written nothing yet may have no log, which is as an empty one.
func AwaitLog(ctx context.Context, path string, o LogOptions, ended func() bool, w io.Writer) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for told := false; ; told = true {
		over := ended() // asked before looking, as in ReadLog
		err := ReadLog(ctx, path, o, ended, w)
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if !told {
			if _, err := w.Write(nil); err != nil {
				return err
			}
		}
		if !o.Follow || over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// ReadLog writes a log in the CRI format, its rotated files first, as LogOptions ask. With Follow it goes on until ended says that
// no more will come, or ctx ends. A missing log is ErrNotFound, before anything is written.
func ReadLog(ctx context.Context, path string, o LogOptions, ended func() bool, w io.Writer) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no log of this container yet: %w", ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	r := &logReader{o: o, w: w, left: o.LimitBytes}
	defer func() { _ = f.Close() }()
	if _, err := w.Write(nil); err != nil { // who follows learns that there is a log, though there may be no line in it for long
		return err
	}
	skip, err := r.skip(path, f)
	if err != nil {
		return err
	}
	for i := rotated(path); i > 0; i-- {
		old, err := os.Open(path + "." + strconv.Itoa(i))
		if err != nil {
			continue // rotated away meanwhile
		}
		skip, err = r.copy(old, skip)
		_ = old.Close()
		if err != nil {
			return ignoreFull(err)
		}
	}
	return ignoreFull(r.follow(ctx, path, &f, skip, ended))
}

// errFull ends a log at limitBytes.
var errFull = errors.New("limit reached")

func ignoreFull(err error) error {
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// rotated is the number of older files.
func rotated(path string) int {
	n := 0
	for {
		if _, err := os.Stat(path + "." + strconv.Itoa(n+1)); err != nil {
			return n
		}
		n++
	}
}

type logReader struct {
	o    LogOptions
	w    io.Writer
	left int64
	rest []byte // a line that is not complete
}

// skip is how many entries to leave out so that Tail are left.
func (r *logReader) skip(path string, f *os.File) (int64, error) {
	if r.o.Tail < 0 {
		return 0, nil
	}
	total := int64(0)
	count := func(f *os.File) error {
		br := bufio.NewReaderSize(f, 64<<10)
		for {
			b, err := br.ReadSlice('\n')
			if len(b) > 0 && b[len(b)-1] == '\n' && fullEntry(b) {
				total++
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
		}
	}
	for i := rotated(path); i > 0; i-- {
		old, err := os.Open(path + "." + strconv.Itoa(i))
		if err != nil {
			continue
		}
		err = count(old)
		_ = old.Close()
		if err != nil {
			return 0, err
		}
	}
	if err := count(f); err != nil {
		return 0, err
	}
	_, err := f.Seek(0, io.SeekStart)
	return max(0, total-r.o.Tail), err
}

// fullEntry tells whether an entry ends a line of the container.
func fullEntry(b []byte) bool {
	_, _, tag, _, ok := parseEntry(b)
	return ok && tag == 'F'
}

// parseEntry takes "TIME STREAM TAG TEXT\n" apart.
func parseEntry(b []byte) (stamp, stream []byte, tag byte, text []byte, ok bool) {
	stamp, rest, ok1 := bytes.Cut(b, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	t, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 || len(t) == 0 {
		return nil, nil, 0, nil, false
	}
	return stamp, stream, t[0], text, true
}

// copy writes the entries from f's position to its end, leaving out the first skip lines, and returns how many are still to be left out.
func (r *logReader) copy(f *os.File, skip int64) (int64, error) {
	br := bufio.NewReaderSize(f, 64<<10)
	for {
		b, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			r.rest = append(r.rest, b...)
			return skip, nil
		}
		if err != nil {
			return skip, err
		}
		if len(r.rest) > 0 {
			b = append(r.rest, b...)
			r.rest = nil
		}
		if skip > 0 {
			if fullEntry(b) {
				skip--
			}
			continue
		}
		if err := r.entry(b); err != nil {
			return skip, err
		}
	}
}

// entry writes one entry's text; parts of a long line are joined by leaving out their newline.
func (r *logReader) entry(b []byte) error {
	stamp, _, tag, text, ok := parseEntry(b)
	if !ok {
		return nil // a line that was cut by a crash
	}
	if !r.o.Since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && t.Before(r.o.Since) {
			return nil
		}
	}
	if tag != 'F' {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	if r.o.Timestamps {
		text = append(append(append([]byte{}, stamp...), ' '), text...)
	}
	if r.o.LimitBytes > 0 {
		text = text[:min(int64(len(text)), r.left)]
		r.left -= int64(len(text))
	}
	if _, err := r.w.Write(text); err != nil {
		return err
	}
	if r.o.LimitBytes > 0 && r.left == 0 {
		return errFull
	}
	return nil
}

// follow copies the present file and, if asked, what is added to it and to those that replace it.
func (r *logReader) follow(ctx context.Context, path string, f **os.File, skip int64, ended func() bool) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		over := ended() // asked before reading: what was written before the end is read
		replaced := isReplaced(path, *f)
		var err error
		if skip, err = r.copy(*f, skip); err != nil {
			return err
		}
		if replaced {
			if next, err := os.Open(path); err == nil {
				_ = (*f).Close()
				*f = next
				continue
			}
		}
		if !r.o.Follow || over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func isReplaced(path string, f *os.File) bool {
	now, err := os.Stat(path)
	if err != nil {
		return false
	}
	own, err := f.Stat()
	return err == nil && !os.SameFile(now, own)
}
