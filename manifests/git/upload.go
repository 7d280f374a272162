package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// uploadRequest is what a client sends to upload-pack: what it wants and has, and how deep its history shall be.
type uploadRequest struct {
	caps    capabilities
	wants   []Hash
	haves   []Hash
	shallow map[Hash]bool
	depth   int
	// asked is set by a flush behind the haves, done by "done": without either the client awaits the shallow list alone.
	asked, done bool
}

// maxNegotiation bounds the lines of one fetch request.
const maxNegotiation = 1 << 17

// readUpload reads wants, shallow and deepen lines up to a flush, then haves up to "done" or the end of the request.
func readUpload(r io.Reader) (uploadRequest, error) {
	req := uploadRequest{shallow: map[Hash]bool{}}
	flushed := false
	for lines := 0; lines < maxNegotiation; lines++ {
		line, err := readPkt(r)
		switch {
		case errors.Is(err, errFlush):
			req.asked = flushed
			flushed = true
			continue
		case errors.Is(err, io.EOF):
			return req, nil
		case err != nil:
			return req, fmt.Errorf("read the fetch request: %w", err)
		}
		text := strings.TrimSuffix(string(line), "\n")
		if text == "done" {
			req.done = true
			return req, nil
		}
		if err := req.line(text, flushed); err != nil {
			return req, err
		}
	}
	return req, fmt.Errorf("read the fetch request: it has more than %d lines", maxNegotiation)
}

func (q *uploadRequest) line(text string, flushed bool) error {
	word, rest, _ := strings.Cut(text, " ")
	hash := func() (Hash, error) {
		h, ok := ParseHash(rest)
		if !ok {
			return h, fmt.Errorf("%.80q: want 40 hex digits behind %q", text, word)
		}
		return h, nil
	}
	var err error
	var h Hash
	switch {
	case word == "want" && !flushed:
		if len(q.wants) == 0 {
			var caps string
			rest, caps, _ = strings.Cut(rest, " ")
			q.caps = parseCapabilities(caps)
		}
		if h, err = hash(); err == nil {
			q.wants = append(q.wants, h)
		}
	case word == "shallow" && !flushed:
		if h, err = hash(); err == nil {
			q.shallow[h] = true
		}
	case word == "deepen" && !flushed:
		if q.depth, err = strconv.Atoi(rest); err != nil || q.depth < 0 {
			return fmt.Errorf("%.80q: want a depth", text)
		}
	case word == "have":
		if h, err = hash(); err == nil {
			q.haves = append(q.haves, h)
		}
	default:
		return fmt.Errorf("%.80q is not understood here", text)
	}
	return err
}

// UploadPack serves one POST of git-upload-pack (protocol version 0, stateless): it reads wants and haves and answers with
// acknowledgements and, when the two sides have met, one pack. It blocks while the client reads.
func (r *Repository) UploadPack(ctx context.Context, in io.Reader, out io.Writer) error {
	snap, err := r.Sync(ctx)
	if err != nil {
		return fmt.Errorf("serve a fetch: %w", err)
	}
	req, err := readUpload(in)
	if err == nil {
		err = r.checkWants(req, snap)
	}
	w := bufio.NewWriterSize(out, 64<<10)
	if err != nil {
		if _, werr := w.Write(appendPkt(nil, "ERR %s\n", firstLine(err))); werr != nil {
			return werr
		}
		return w.Flush()
	}
	if len(req.wants) == 0 {
		return nil
	}
	f := fetch{repo: r, req: req}
	if err := f.serve(w); err != nil {
		return fmt.Errorf("serve a fetch: %w", err)
	}
	return w.Flush()
}

// checkWants lets a client have only what refs lead to. A want that is the tip of a ref is the normal case and cheap.
func (r *Repository) checkWants(req uploadRequest, snap Snapshot) error {
	tips := map[Hash]bool{}
	for _, h := range snap.Refs {
		tips[h] = true
	}
	for _, want := range req.wants {
		if tips[want] {
			continue
		}
		if o, ok := r.object(want); !ok || o.kind != plumbing.CommitObject || !r.reachable(want, snap) {
			return fmt.Errorf("not our ref %s", want)
		}
	}
	return nil
}

func (r *Repository) reachable(want Hash, snap Snapshot) bool {
	for _, tip := range snap.Refs {
		if reaches(r.object, tip, want) {
			return true
		}
	}
	return false
}

// fetch is one negotiation.
type fetch struct {
	repo *Repository
	req  uploadRequest
}

func (f *fetch) serve(w *bufio.Writer) error {
	var out []byte
	cut := map[Hash]bool{}
	if f.req.depth > 0 {
		var unshallow []Hash
		cut, unshallow = f.boundary()
		for h := range cut {
			if !f.req.shallow[h] {
				out = appendPkt(out, "shallow %s\n", h)
			}
		}
		for _, h := range unshallow {
			out = appendPkt(out, "unshallow %s\n", h)
		}
		out = appendFlush(out)
	}
	if !f.req.asked && !f.req.done {
		_, err := w.Write(out)
		return err
	}
	common, send, acks := f.acknowledge()
	if _, err := w.Write(append(out, acks...)); err != nil || !send {
		return err
	}
	hashes, err := f.objects(common, cut)
	if err != nil {
		return err
	}
	a := &answer{band: f.req.caps.has("side-band-64k"), w: w}
	if err := encodePack(a, encodable{lookup: f.repo.object}, hashes); err != nil {
		return err
	}
	return a.end()
}

// acknowledge answers the haves. It returns the commits that both sides have, whether the pack follows now, and the lines.
func (f *fetch) acknowledge() (common []Hash, send bool, out []byte) {
	detailed := f.req.caps.has("multi_ack_detailed")
	var last Hash
	for _, h := range f.req.haves {
		if o, ok := f.repo.object(h); !ok || o.kind != plumbing.CommitObject {
			continue
		}
		common = append(common, h)
		last = h
		if detailed {
			out = appendPkt(out, "ACK %s common\n", h)
		}
	}
	switch {
	case f.req.done && last.IsZero():
		return common, true, appendPkt(out, "NAK\n")
	case f.req.done:
		return common, true, appendPkt(out, "ACK %s\n", last)
	case detailed && !last.IsZero() && f.met(common):
		out = appendPkt(out, "ACK %s ready\n", last)
		if f.req.caps.has("no-done") {
			return common, true, appendPkt(appendPkt(out, "NAK\n"), "ACK %s\n", last)
		}
		return common, false, appendPkt(out, "NAK\n")
	case !detailed && !last.IsZero():
		return common, false, appendPkt(out, "ACK %s\n", common[0])
	}
	return common, false, appendPkt(out, "NAK\n")
}

// met tells whether every want has an ancestor among the common commits, so that nothing would be sent in vain.
func (f *fetch) met(common []Hash) bool {
	is := map[Hash]bool{}
	for _, h := range common {
		is[h] = true
	}
	for _, want := range f.req.wants {
		found := false
		f.walk([]Hash{want}, nil, func(c Commit) bool {
			found = found || is[c.Hash]
			return !found
		})
		if !found {
			return false
		}
	}
	return true
}

// walk visits commits and their ancestors, each once, newest first by distance. It does not go below commits for which visit
// returns false, nor below those in stop.
func (f *fetch) walk(from []Hash, stop map[Hash]bool, visit func(Commit) bool) {
	seen := map[Hash]bool{}
	queue := append([]Hash(nil), from...)
	for ; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		if seen[h] {
			continue
		}
		seen[h] = true
		c, err := f.repo.Commit(f.peel(h))
		if err != nil || !visit(c) || stop[c.Hash] {
			continue
		}
		queue = append(queue, c.Parents...)
	}
}

// peel follows annotated tags.
func (f *fetch) peel(h Hash) Hash {
	for range 10 {
		o, ok := f.repo.object(h)
		if !ok || o.kind != plumbing.TagObject {
			return h
		}
		next, err := parseTag(o)
		if err != nil {
			return h
		}
		h = next
	}
	return h
}

// boundary finds the commits below which a history of the wanted depth is cut, and those of the client's shallow commits
// that are not cut any more.
func (f *fetch) boundary() (cut map[Hash]bool, unshallow []Hash) {
	cut = map[Hash]bool{}
	depth := map[Hash]int{}
	var queue []Hash
	for _, h := range f.req.wants {
		h = f.peel(h)
		if depth[h] == 0 {
			depth[h] = 1
			queue = append(queue, h)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		c, err := f.repo.Commit(h)
		if err != nil {
			continue
		}
		if depth[h] >= f.req.depth {
			if len(c.Parents) > 0 {
				cut[h] = true
			}
			continue
		}
		if f.req.shallow[h] {
			unshallow = append(unshallow, h)
		}
		for _, p := range c.Parents {
			if depth[p] == 0 {
				depth[p] = depth[h] + 1
				queue = append(queue, p)
			}
		}
	}
	return cut, unshallow
}

// objects lists what the client lacks. What the client has is the history below the common commits, as far as it is not cut
// by its own shallow commits, and the trees of those commits.
func (f *fetch) objects(common []Hash, cut map[Hash]bool) ([]Hash, error) {
	has := map[Hash]bool{}
	f.walk(common, f.req.shallow, func(c Commit) bool { has[c.Hash] = true; return true })
	l := lister{find: f.repo.object, seen: map[Hash]bool{}}
	for _, h := range common {
		if c, err := f.repo.Commit(h); err == nil {
			if err := l.tree(c.Tree); err != nil {
				return nil, err
			}
		}
	}
	l.out = nil
	for _, h := range f.req.wants {
		for o, ok := f.repo.object(h); ok && o.kind == plumbing.TagObject; o, ok = f.repo.object(h) {
			l.add(h)
			if h = f.peel(h); h == o.hash {
				break
			}
		}
	}
	var err error
	f.walk(f.req.wants, cut, func(c Commit) bool {
		// A commit that the client has may stand above its shallow boundary: then its ancestors are still to be sent.
		if has[c.Hash] {
			return f.req.depth > 0 && len(f.req.shallow) > 0
		}
		l.add(c.Hash)
		if terr := l.tree(c.Tree); err == nil {
			err = terr
		}
		return true
	})
	return l.out, err
}

// lister collects objects, each once.
type lister struct {
	find lookup
	seen map[Hash]bool
	out  []Hash
}

func (l *lister) add(h Hash) bool {
	if l.seen[h] {
		return false
	}
	l.seen[h] = true
	l.out = append(l.out, h)
	return true
}

func (l *lister) tree(h Hash) error {
	if !l.add(h) {
		return nil
	}
	entries, err := readTree(l.find, h)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := l.tree(e.Hash); err != nil {
				return err
			}
		} else {
			l.add(e.Hash)
		}
	}
	return nil
}
