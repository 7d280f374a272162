//go:build linux

package main

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// lineMax is the longest piece of a line in one log entry, as in containerd; longer lines are written in parts marked P.
const lineMax = 16 << 10

// stream is one of the container's outputs, with the line that is not yet complete.
type stream struct {
	fd   int
	name string
	kind byte
	used int
	line [lineMax]byte
}

// read takes what is there, at most a few buffers so that others get their turn, and logs its whole lines.
func (st *stream) read(s *shim) {
	for range 8 {
		n, err := syscall.Read(st.fd, st.line[st.used:])
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return
		}
		if err != nil || n <= 0 { // EOF; a terminal gives EIO
			st.end(s)
			return
		}
		s.attach.broadcast(s, st.kind, st.line[st.used:st.used+n])
		st.used += n
		st.cut(s)
	}
}

func (st *stream) cut(s *shim) {
	from := 0
	for {
		i := bytes.IndexByte(st.line[from:st.used], '\n')
		if i < 0 {
			break
		}
		s.log.entry(st.name, 'F', st.line[from:from+i])
		from += i + 1
	}
	if from == 0 && st.used == lineMax {
		s.log.entry(st.name, 'P', st.line[:])
		st.used = 0
		return
	}
	st.used = copy(st.line[:], st.line[from:st.used])
}

// end logs what is left and closes the stream.
func (st *stream) end(s *shim) {
	if st.fd < 0 {
		return
	}
	if st.used > 0 {
		s.log.entry(st.name, 'F', st.line[:st.used])
		st.used = 0
	}
	s.forget(st.fd)
	_ = syscall.Close(st.fd)
	st.fd = -1
}

// logFile is the log in the CRI format, rotated by size: PATH, PATH.1, PATH.2 …
type logFile struct {
	path  string
	max   int64
	files int
	fd    int
	size  int64
	used  int
	buf   [lineMax + 4096]byte
}

func (l *logFile) open() error {
	if l.path == "" {
		return nil
	}
	fd, err := syscall.Open(l.path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return &os.PathError{Op: "open log", Path: l.path, Err: err}
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil {
		l.size = st.Size
	}
	l.fd = fd
	return nil
}

// entry adds "TIME STREAM TAG LINE\n".
func (l *logFile) entry(stream string, tag byte, line []byte) {
	if l.fd < 0 {
		return
	}
	if len(l.buf)-l.used < len(line)+64 {
		l.flush()
	}
	b := time.Now().UTC().AppendFormat(l.buf[:l.used], "2006-01-02T15:04:05.000000000Z07:00")
	b = append(b, ' ')
	b = append(b, stream...)
	b = append(b, ' ', tag, ' ')
	b = append(b, line...)
	b = append(b, '\n')
	l.used = len(b)
}

// flush writes the entries and rotates a full file. A full disk loses lines, never blocks the container.
func (l *logFile) flush() {
	if l.fd < 0 || l.used == 0 {
		return
	}
	for b := l.buf[:l.used]; len(b) > 0; {
		n, err := syscall.Write(l.fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			break
		}
		l.size += int64(n)
		b = b[n:]
	}
	l.used = 0
	if l.max > 0 && l.size >= l.max {
		l.rotate()
	}
}

func (l *logFile) rotate() {
	for i := l.files - 1; i > 1; i-- {
		_ = syscall.Rename(l.path+"."+strconv.Itoa(i-1), l.path+"."+strconv.Itoa(i))
	}
	if l.files > 1 {
		_ = syscall.Rename(l.path, l.path+".1")
	} else {
		_ = syscall.Unlink(l.path)
	}
	old := l.fd
	if l.open() == nil {
		_ = syscall.Close(old)
	}
}
