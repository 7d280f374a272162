package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"k8s.io/apimachinery/pkg/runtime"

	"reconcile/object"
)

// gzipFrom is the size from which answers are compressed, as in Kubernetes: below it the time costs more than the bytes.
const gzipFrom = 128 << 10

// send writes the parts of an answer one after another. Their sum decides about compression.
func send(w http.ResponseWriter, r *http.Request, code int, media string, parts ...[]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h := w.Header()
	sendHeader(h, media)
	var out io.Writer = w
	if size > gzipFrom && h.Get("Content-Encoding") == "" && wantsGzip(r) {
		gzipHeader(h)
		w.WriteHeader(code)
		zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return
		}
		// One who asked and is gone gets no end either.
		defer func() { _ = zw.Close() }()
		out = zw
	} else {
		h.Set("Content-Length", strconv.Itoa(size))
		w.WriteHeader(code)
	}
	if r.Method == http.MethodHead {
		return
	}
	copyParts(out, parts, size)
}

func sendHeader(h http.Header, media string) {
	h.Set("Content-Type", media)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache, private")
	}
	h.Add("Vary", "Accept")
}

func gzipHeader(h http.Header) {
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
}

func wantsGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}

// sendZipped writes the parts of an answer that is compressed already.
func sendZipped(w http.ResponseWriter, code int, media string, parts [][]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h := w.Header()
	sendHeader(h, media)
	gzipHeader(h)
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(code)
	copyParts(w, parts, size)
}

// unchanged notes the tag of a document, and answers if the client has just that one already.
func unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	tag = strconv.Quote(tag)
	h := w.Header()
	h.Set("ETag", tag)
	if !strings.Contains(r.Header.Get("If-None-Match"), tag) {
		return false
	}
	h.Add("Vary", "Accept")
	w.WriteHeader(http.StatusNotModified)
	return true
}

// tagOf is a tag for bytes.
func tagOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Small parts are gathered into bigger writes: each write of an HTTP/2 stream is a frame of its own at least, which goes through three goroutines, and
// has a header of nine bytes before it; the two sizes fill whole records of TLS. An HTTP/2 connection keeps a buffer as large as its largest frame for as
// long as it lives, so that only large answers get the larger ones.
const (
	smallWrite = 64<<10 - 9
	largeWrite = 256<<10 - 9
	// largeAnswer is from where an answer is large.
	largeAnswer = 4 << 20
)

// copyParts writes the parts of an answer of so many bytes.
func copyParts(out io.Writer, parts [][]byte, size int) {
	chunk := smallWrite
	if size >= largeAnswer {
		chunk = largeWrite
	}
	var buf []byte
	for _, p := range parts {
		if len(buf)+len(p) > chunk && len(buf) > 0 {
			if _, err := out.Write(buf); err != nil {
				return
			}
			buf = buf[:0]
		}
		for len(p) >= chunk {
			if _, err := out.Write(p[:chunk]); err != nil {
				return
			}
			p = p[chunk:]
		}
		if buf == nil && len(parts) > 1 {
			buf = make([]byte, 0, min(chunk, size))
		}
		buf = append(buf, p...)
	}
	//nolint:errcheck // the client may have gone; there is nobody to tell
	out.Write(buf)
}

// sendObject answers with one object.
func (s *Server) sendObject(w http.ResponseWriter, r *http.Request, code int, k object.Kind, a accepted, o object.Object, v variant) {
	if a.refused != nil {
		s.writeError(w, r, a.refused)
		return
	}
	var (
		parts [][]byte
		err   error
	)
	if a.shape == shapeTable {
		parts, err = s.table(k, a, []object.Object{o}, listMeta{rev: o.GetResourceVersion()}, r)
	} else {
		parts = make([][]byte, 1)
		parts[0], err = s.enc.body(o, k, a, v)
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	send(w, r, code, a.media, parts...)
}

// sendPlain answers with an object of no stored kind (a Scale, a Status) as JSON, or as protobuf if the client wants nothing else.
func (s *Server) sendPlain(w http.ResponseWriter, r *http.Request, code int, o runtime.Object) {
	a, err := negotiate(r, true)
	if err != nil {
		a = accepted{media: mediaJSON}
	}
	if m, ok := o.(protoMarshaler); ok && a.media == mediaProto {
		raw, err := m.Marshal()
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		send(w, r, code, a.media, envelope(o.GetObjectKind().GroupVersionKind(), raw))
		return
	}
	b, err := json.Marshal(o)
	if err == nil {
		b, err = asText(b, a)
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if a.media == mediaProto {
		a.media = mediaJSON
	}
	send(w, r, code, a.media, b)
}
