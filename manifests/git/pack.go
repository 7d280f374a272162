package git

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// pending is a delta whose base was not known when it was read.
type pending struct {
	offset int64
	base   int64 // offset of the base, or 0
	ref    Hash  // hash of the base if base is 0
	delta  []byte
}

// unpacker turns one pack into objects. Every size is checked before memory is taken for it, so that a pack of a few bytes
// cannot ask for gigabytes.
type unpacker struct {
	limits  Limits
	lookup  func(Hash) (*Object, bool)
	total   int64
	objects map[Hash]*Object
	byPlace map[int64]*Object
}

// unpack reads a whole pack. Bases of thin packs come from lookup. The objects are returned with their order in the pack.
func unpack(pack []byte, limits Limits, lookup func(Hash) (*Object, bool)) (map[Hash]*Object, error) {
	if len(pack) < 12+sha1.Size {
		return nil, fmt.Errorf("the pack is cut short: %d bytes", len(pack))
	}
	body, sum := pack[:len(pack)-sha1.Size], pack[len(pack)-sha1.Size:]
	if got := sha1.Sum(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("the pack's checksum is wrong: it is damaged or cut short")
	}
	scanner := packfile.NewScanner(bytes.NewReader(body))
	_, count, err := scanner.Header()
	if err != nil {
		return nil, fmt.Errorf("read the pack's header: %w", err)
	}
	if int64(count) > int64(limits.Objects) {
		return nil, fmt.Errorf("the pack holds %d objects, more than the limit of %d", count, limits.Objects)
	}
	hint := min(int(count), 1<<14)
	u := &unpacker{limits: limits, lookup: lookup, objects: make(map[Hash]*Object, hint), byPlace: make(map[int64]*Object, hint)}
	waiting, err := u.scan(scanner, int(count))
	if err != nil {
		return nil, err
	}
	if err := u.resolve(waiting); err != nil {
		return nil, err
	}
	return u.objects, nil
}

// scan reads every entry: whole objects are added, deltas are kept for resolve.
func (u *unpacker) scan(scanner *packfile.Scanner, count int) ([]pending, error) {
	var waiting []pending
	for i := range count {
		h, err := scanner.NextObjectHeader()
		if err != nil {
			return nil, fmt.Errorf("read the pack's entry %d: %w", i+1, err)
		}
		if err := u.admit(h.Length); err != nil {
			return nil, err
		}
		buf := bytes.NewBuffer(make([]byte, 0, h.Length))
		if n, _, err := scanner.NextObject(buf); err != nil {
			return nil, fmt.Errorf("read the pack's entry %d: %w", i+1, err)
		} else if n != h.Length {
			return nil, fmt.Errorf("read the pack's entry %d: it has %d bytes, its header says %d", i+1, n, h.Length)
		}
		switch h.Type {
		case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
			u.add(h.Offset, newObject(h.Type, buf.Bytes()))
		case plumbing.OFSDeltaObject:
			waiting = append(waiting, pending{offset: h.Offset, base: h.OffsetReference, delta: buf.Bytes()})
		case plumbing.REFDeltaObject:
			waiting = append(waiting, pending{offset: h.Offset, ref: h.Reference, delta: buf.Bytes()})
		default:
			return nil, fmt.Errorf("read the pack's entry %d: unknown type %d", i+1, h.Type)
		}
	}
	return waiting, nil
}

// admit checks a declared size before memory is taken for it.
func (u *unpacker) admit(size int64) error {
	if size < 0 || size > u.limits.ObjectBytes {
		return fmt.Errorf("an object of %d bytes is larger than the limit of %d", size, u.limits.ObjectBytes)
	}
	u.total += size
	if u.total > u.limits.TotalBytes {
		return fmt.Errorf("the pack unpacks to more than the limit of %d bytes", u.limits.TotalBytes)
	}
	return nil
}

func (u *unpacker) add(offset int64, o *Object) {
	u.objects[o.hash] = o
	u.byPlace[offset] = o
}

// resolve applies deltas until all are objects. Each round resolves those whose base is known; a round that resolves none
// means that a base is missing.
func (u *unpacker) resolve(waiting []pending) error {
	children := map[int64][]int{}
	byRef := map[Hash][]int{}
	var ready []int
	for i, p := range waiting {
		switch {
		case u.baseOf(p) != nil:
			ready = append(ready, i)
		case p.base != 0:
			children[p.base] = append(children[p.base], i)
		default:
			byRef[p.ref] = append(byRef[p.ref], i)
		}
	}
	done := 0
	for len(ready) > 0 {
		p := waiting[ready[len(ready)-1]]
		ready = ready[:len(ready)-1]
		o, err := u.patch(u.baseOf(p), p.delta)
		if err != nil {
			return err
		}
		u.add(p.offset, o)
		done++
		ready = append(append(ready, children[p.offset]...), byRef[o.hash]...)
		delete(children, p.offset)
		delete(byRef, o.hash)
	}
	if done == len(waiting) {
		return nil
	}
	for ref := range byRef {
		return fmt.Errorf("the pack has a delta against object %s, which is not here: push again from a full clone", ref)
	}
	return fmt.Errorf("the pack has a delta against an entry that it does not hold")
}

func (u *unpacker) baseOf(p pending) *Object {
	if p.base != 0 {
		return u.byPlace[p.base]
	}
	if o, ok := u.objects[p.ref]; ok {
		return o
	}
	if o, ok := u.lookup(p.ref); ok {
		return o
	}
	return nil
}

func (u *unpacker) patch(base *Object, delta []byte) (*Object, error) {
	_, n := binary.Uvarint(delta)
	if n <= 0 {
		return nil, fmt.Errorf("the pack has a malformed delta against %s", base.hash)
	}
	size, m := binary.Uvarint(delta[n:])
	if m <= 0 || size > uint64(u.limits.ObjectBytes) {
		return nil, fmt.Errorf("a delta against %s makes an object larger than the limit of %d bytes", base.hash, u.limits.ObjectBytes)
	}
	if err := u.admit(int64(size)); err != nil {
		return nil, err
	}
	data, err := packfile.PatchDelta(base.data, delta)
	if err != nil {
		return nil, fmt.Errorf("apply a delta against %s: %w", base.hash, err)
	}
	return newObject(base.kind, data), nil
}

// encodePack writes the objects as one pack without deltas: the receiver is near, and deltas cost more time than they save.
func encodePack(w io.Writer, objects objectReader, hashes []Hash) error {
	if _, err := packfile.NewEncoder(w, objects, false).Encode(hashes, 0); err != nil {
		return fmt.Errorf("encode a pack of %d objects: %w", len(hashes), err)
	}
	return nil
}
