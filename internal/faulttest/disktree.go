package faulttest

import (
	"maps"
)

// sector is the smallest piece of a write that a power cut keeps or loses.
const sector = 4096

// folder is a directory: what processes see, and what a power cut leaves.
type folder struct {
	ino         uint64
	parent      *folder
	name        string // under which it was made
	now, synced map[string]any
}

func newFolder(ino uint64, parent *folder, name string) *folder {
	return &folder{ino: ino, parent: parent, name: name, now: map[string]any{}, synced: map[string]any{}}
}

// sync makes the entries outlast a power cut, as fsync of a directory does.
func (f *folder) sync() {
	f.synced = maps.Clone(f.now)
	f.made()
}

// made makes the entries outlast by which the folder and those above it came to be.
func (f *folder) made() {
	for ; f.parent != nil; f = f.parent {
		if f.parent.now[f.name] == any(f) {
			f.parent.synced[f.name] = f
		}
	}
}

// document is a file: its content, the durable one, and the changes between them in their order.
type document struct {
	ino          uint64
	parent       *folder
	name         string // under which it was made
	data, synced []byte
	dirty        []change
}

// change is a write at a place, or a new length if data is nil.
type change struct {
	at   int64
	data []byte
}

func (c change) apply(b []byte) []byte {
	end := c.at + int64(len(c.data))
	switch {
	case c.data == nil && end <= int64(len(b)):
		return b[:end:end]
	case end > int64(len(b)):
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.at:], c.data)
	return b
}

func (d *document) change(c change) {
	d.data = c.apply(d.data)
	d.dirty = append(d.dirty, c)
}

// sync makes the content outlast a power cut, and the entry by which the file was made, as ext4 and xfs do. A rename outlasts
// only when the directory is synced.
func (d *document) sync() {
	for _, c := range d.dirty {
		d.synced = c.apply(d.synced)
	}
	d.dirty = nil
	if d.parent.now[d.name] == any(d) {
		d.parent.synced[d.name] = d
		d.parent.made()
	}
}

// cut is the tree as a power cut leaves it. Of what was not synced each sector is kept if keep says so: a disk writes in any
// order.
func (f *folder) cut(keep func() bool) *folder {
	out := newFolder(f.ino, nil, f.name)
	for name, e := range f.synced {
		switch e := e.(type) {
		case *folder:
			child := e.cut(keep)
			child.parent, child.name = out, name
			out.now[name], out.synced[name] = child, child
		case *document:
			child := &document{ino: e.ino, parent: out, name: name}
			child.synced = append([]byte(nil), e.synced...)
			for _, c := range e.dirty {
				child.synced = c.partly(child.synced, keep)
			}
			child.data = append([]byte(nil), child.synced...)
			out.now[name], out.synced[name] = child, child
		}
	}
	return out
}

// partly applies some sectors of a change.
func (c change) partly(b []byte, keep func() bool) []byte {
	if c.data == nil {
		if keep() {
			b = c.apply(b)
		}
		return b
	}
	for at := 0; at < len(c.data); {
		n := min(len(c.data)-at, sector-int((c.at+int64(at))%sector))
		if keep() {
			b = change{at: c.at + int64(at), data: c.data[at : at+n]}.apply(b)
		}
		at += n
	}
	return b
}
