package api

import (
	"crypto/sha256"
	"hash/maphash"
	"net/http"

	"reconcile/object"
)

// A list that is asked for with gzip, as client-go and kubectl ask by themselves, is put together of pieces that are kept compressed. A piece is some
// dozens of neighbours in the store's order, and is known by their revisions: a change costs the compression of its own piece, and a list of which
// nothing has changed none at all. Where a list is cut depends on the objects' names alone, so that what is added or removed moves no other cut.
//
// Pieces of which a selection leaves something out are compressed for the one answer, neighbours together.

const (
	// pieceObjects is how many objects a piece has in the mean, and pieceBytes from where it is cut in any case.
	pieceObjects = 64
	pieceBytes   = 512 << 10
	// unknownBytes is taken for the size of an object whose stored bytes are not at hand.
	unknownBytes = 1 << 10
)

// zips keeps compressed pieces.
type zips struct {
	deflaters
	seed maphash.Seed
	kept *cache[pieceKey, *piece]
}

// pieceKey is a digest of what a piece shows.
type pieceKey [sha256.Size]byte

func newZips(limit int64) zips {
	return zips{seed: maphash.MakeSeed(), kept: newCache[pieceKey](limit, func(p *piece) int { return len(p.deflated) + 256 })}
}

// run is items[from:to] of a page; whole tells that nothing between them is left out.
type run struct {
	from, to int
	whole    bool
}

// cut cuts a page into runs.
func (z *zips) cut(p page) []run {
	var out []run
	from, size, holes := 0, 0, p.holes
	for i, o := range p.items {
		size += estimate(p.values[i])
		if i+1 < len(p.items) && size < pieceBytes && !z.last(o) {
			continue
		}
		r := run{from, i + 1, true}
		for len(holes) > 0 && holes[0] <= i {
			r.whole, holes = false, holes[1:]
		}
		if n := len(out); n > 0 && !r.whole && !out[n-1].whole {
			out[n-1].to = r.to
		} else {
			out = append(out, r)
		}
		from, size = r.to, 0
	}
	return out
}

// last tells whether a piece ends with an object.
func (z *zips) last(o object.Object) bool {
	return maphash.Comparable(z.seed, [2]string{o.GetNamespace(), o.GetName()})%pieceObjects == 0
}

// estimate is about how long an object of these stored bytes is.
func estimate(value []byte) int {
	if value == nil {
		return unknownBytes
	}
	return len(value)
}

// pieces returns the pieces of a page. form tells one encoding of one version of a kind from all others; encode makes the bytes of items[from:to].
func (z *zips) pieces(p page, form string, encode func(from, to int) ([][]byte, error)) ([]*piece, error) {
	runs := z.cut(p)
	out := make([]*piece, len(runs))
	var text []byte
	for i, r := range runs {
		var key pieceKey
		if r.whole {
			text = append(text[:0], form...)
			for _, o := range p.items[r.from:r.to] {
				text = append(append(text, ' '), o.GetResourceVersion()...)
			}
			key = sha256.Sum256(text)
			if have, ok := z.kept.get(key); ok {
				out[i] = have
				continue
			}
		}
		parts, err := encode(r.from, r.to)
		if err != nil {
			return nil, err
		}
		if out[i], err = z.piece(parts); err != nil {
			return nil, err
		}
		if r.whole {
			z.kept.put(key, out[i])
		}
	}
	return out, nil
}

// zippable tells whether a list is to be sent of compressed pieces.
func (s *Server) zippable(r *http.Request, k object.Kind, a accepted, p page) bool {
	if !wantsGzip(r) || r.Method != http.MethodGet || k.Uncached || a.refused != nil || a.pretty || a.shape != shapeWhole || a.media != mediaProto && a.media != mediaJSON {
		return false
	}
	size := 0
	for _, v := range p.values {
		size += estimate(v)
	}
	return size > gzipFrom
}

// zippedList encodes a list as agreed, compressed, as parts to be sent one after another. The parts are shared bytes.
func (s *Server) zippedList(k object.Kind, a accepted, p page) ([][]byte, error) {
	m := newMember()
	form := a.media + " " + k.GVK.String()
	if a.media == mediaProto {
		pieces, err := s.zips.pieces(p, form, func(from, to int) ([][]byte, error) {
			parts, _, err := s.protoItems(nil, k, p.items[from:to], p.values[from:to])
			return parts, err
		})
		if err != nil {
			return nil, err
		}
		size := 0
		for _, piece := range pieces {
			size += piece.size
		}
		head, err := protoHead(k, p.meta, size)
		if err != nil {
			return nil, err
		}
		m.plain(head)
		for _, piece := range pieces {
			m.add(piece)
		}
		return m.end(), nil
	}
	pieces, err := s.zips.pieces(p, form, func(from, to int) ([][]byte, error) { return s.jsonItems(nil, k, p.items[from:to]) })
	if err != nil {
		return nil, err
	}
	head, err := jsonHead(k, p.meta)
	if err != nil {
		return nil, err
	}
	m.plain(head)
	for i, piece := range pieces {
		if i > 0 {
			m.plain([]byte(","))
		}
		m.add(piece)
	}
	m.plain([]byte(jsonTail))
	return m.end(), nil
}
