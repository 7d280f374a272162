package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"reconcile/authz"
	"reconcile/cluster"
	"reconcile/object"
)

const (
	// bookmarkEvery is how often a watcher that asked for bookmarks learns how far it has got.
	bookmarkEvery = time.Minute
	// watchLife is the least time after which a watch without timeoutSeconds ends; at most twice as much, by chance, so that
	// watchers do not come back all at once.
	watchLife = 30 * time.Minute
	// maxLife is the longest life of a watch that a client may ask for, in seconds.
	maxLife = 24 * 60 * 60
)

// watch serves a watch. Errors before the first byte are returned; later ones travel as an ERROR event.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartial)
	if err == nil {
		err = a.refused
	}
	if err != nil {
		return err
	}
	if a.media == mediaYAML {
		return notAcceptable(mediaJSON, mediaProto)
	}
	o, err := parseListOptions(t)
	if err != nil {
		return err
	}
	if name := t.name; name != "" {
		return badRequest("a watch of one object is a watch of its resource with fieldSelector=metadata.name=%s", name)
	}
	ctx, cancel := context.WithTimeout(r.Context(), life(o))
	defer cancel()

	out := newEventWriter(s, w, r, t.kind, a)
	defer out.out.close()
	from := o.ResourceVersion
	initial := from == "" || from == "0"
	if o.SendInitialEvents != nil {
		initial = *o.SendInitialEvents
	}
	after, err := parseRev(from)
	if err != nil {
		return err
	}
	var view View
	if initial || after == 0 {
		view, err = s.fresh(r.Context(), from)
		if tooNew(err) {
			out.fail(err)
			return nil
		}
		if err != nil {
			return err
		}
		after = view.Rev()
	} else if err := s.await(r.Context(), after); err != nil {
		return err
	}
	cursor, err := s.cfg.Store.Watch(t.resource, t.namespace, after)
	if err != nil {
		out.fail(watchFault(err, after))
		return nil
	}
	out.open()
	if initial && !s.sendInitial(out, view, t, o) {
		return nil
	}
	s.follow(ctx, out, cursor, o, after)
	return nil
}

func life(o listOptions) time.Duration {
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		return time.Duration(min(*o.TimeoutSeconds, maxLife)) * time.Second
	}
	return watchLife + rand.N(watchLife)
}

// initialLimits is how many times Config.WriteTimeout a watcher may take for the present objects: ten minutes. The state that they are of, with every
// version that was replaced since, is kept for it as long.
const initialLimits = 20

// sendInitial reports the present objects as added, and where they end if the watcher asked for it.
func (s *Server) sendInitial(out *eventWriter, view View, t target, o listOptions) bool {
	limit := time.Now().Add(initialLimits * s.cfg.WriteTimeout)
	for x, value := range listStored(view, t.resource, t.namespace, "") {
		if time.Now().After(limit) {
			out.fail(watchFault(ErrCompacted, view.Rev()))
			return false
		}
		if o.sel.matches(x) && !out.present(x, value) {
			return false
		}
	}
	if o.SendInitialEvents != nil && *o.SendInitialEvents && o.AllowWatchBookmarks {
		if !out.bookmark(view.Rev(), true) {
			return false
		}
	}
	return out.flush()
}

// follow reports changes until the watch ends.
func (s *Server) follow(ctx context.Context, out *eventWriter, cursor Watch, o listOptions, reached uint64) {
	out.rest = rester{all: &s.sent, zero: s.began, last: -time.Hour}
	defer out.rest.stop()
	for marked := reached; ; {
		var more bool
		reached, more = s.followSlice(ctx, out, cursor, o.sel, reached)
		if !more {
			return
		}
		if o.AllowWatchBookmarks && reached > marked {
			marked = reached
			if !out.bookmark(reached, false) || !out.flush() {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// followSlice reports changes until it is time for a bookmark: the wait is cut in slices, so that they are sent while nothing of the selection
// changes. It returns the revision up to which the watch is complete, and whether it goes on.
func (s *Server) followSlice(ctx context.Context, out *eventWriter, cursor Watch, sel selection, reached uint64) (uint64, bool) {
	slice, cancel := context.WithTimeout(ctx, bookmarkEvery)
	defer cancel()
	for {
		events, rev, err := cursor.Next(slice)
		reached = max(reached, rev)
		if err != nil {
			if slice.Err() != nil {
				return reached, true
			}
			out.fail(watchFault(err, reached))
			return reached, false
		}
		for _, e := range events {
			if !out.change(e, sel) {
				return reached, false
			}
		}
		if !out.dirty {
			continue
		}
		if !out.flush() {
			return reached, false
		}
		out.rest.sent(slice)
	}
}

func watchFault(err error, after uint64) error {
	if errors.Is(err, ErrCompacted) {
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", after))
	}
	return err
}

// eventWriter writes events in the agreed form. Its methods answer false when the client has gone.
type eventWriter struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	out     *guard
	kind    object.Kind
	a       accepted
	buf     []byte
	opened  bool
	dirty   bool
	headers bool // a Table's columns were sent
	rest    rester
}

func newEventWriter(s *Server, w http.ResponseWriter, r *http.Request, k object.Kind, a accepted) *eventWriter {
	return &eventWriter{s: s, w: w, r: r, out: newGuard(w, min(s.cfg.WriteTimeout, watchTimeout)), kind: k, a: a}
}

// open sends the header, without which a client does not know that its watch has begun.
func (e *eventWriter) open() {
	e.opened = true
	h := e.w.Header()
	h.Set("Content-Type", e.a.media)
	if e.a.media == mediaProto {
		h.Set("Content-Type", mediaProto+";stream=watch")
	}
	h.Set("Cache-Control", "no-cache, private")
	e.w.WriteHeader(http.StatusOK)
	e.dirty = true
	e.flush()
}

// change translates a change into an event of the selection: an object that begins to match is ADDED, one that ceases to is DELETED.
func (e *eventWriter) change(c cluster.Event, sel selection) bool {
	was := c.Prev != nil && sel.matches(c.Prev)
	is := c.Type != cluster.Deleted && sel.matches(c.Object)
	switch {
	case is && was:
		return e.event(apiwatch.Modified, c.Object, stored)
	case is:
		return e.event(apiwatch.Added, c.Object, stored)
	case was && c.Type == cluster.Deleted:
		return e.event(apiwatch.Deleted, c.Object, gone)
	case was:
		// It has left the selection: the watcher gets what it knew, with the revision at which it left.
		last := object.Copy(c.Prev)
		last.SetResourceVersion(formatRev(c.Rev))
		return e.event(apiwatch.Deleted, last, gone)
	}
	return true
}

// present reports an object that is there when the watch begins, of which the stored bytes may be at hand.
func (e *eventWriter) present(o object.Object, value []byte) bool {
	if e.a.shape == shapeWhole && e.a.media == mediaProto && e.kind.IsStored() {
		if raw, ok := object.Payload(value); ok {
			e.buf = appendFrame(e.buf[:0], string(apiwatch.Added), e.kind.GVK, raw)
			return e.write(e.buf)
		}
	}
	return e.event(apiwatch.Added, o, stored)
}

func (e *eventWriter) event(kind apiwatch.EventType, o object.Object, v variant) bool {
	if e.a.shape == shapeWhole {
		b, err := e.s.enc.frame(kind, o, e.kind, e.a.media, v)
		if err != nil {
			e.fail(err)
			return false
		}
		return e.write(b)
	}
	var err error
	switch e.a.media {
	case mediaProto:
		var raw []byte
		if raw, err = partial(o, e.a.version).Marshal(); err == nil {
			e.buf = appendFrame(e.buf[:0], string(kind), metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"), raw)
		}
	default:
		var b []byte
		if b, err = e.json(o, v); err == nil {
			e.buf = appendLine(e.buf[:0], kind, b)
		}
	}
	if err != nil {
		e.fail(err)
		return false
	}
	return e.write(e.buf)
}

// json is the object of an event as JSON in the agreed shape.
func (e *eventWriter) json(o object.Object, v variant) ([]byte, error) {
	if e.a.shape != shapeTable {
		return e.s.enc.body(o, e.kind, accepted{media: mediaJSON, shape: e.a.shape, version: e.a.version}, v)
	}
	m := listMeta{rev: o.GetResourceVersion()}
	parts, err := e.s.tableRows(e.kind, e.a, []object.Object{o}, m, e.r, !e.headers, v)
	e.headers = true
	return bytes.Join(parts, nil), err
}

// appendLine appends a watch event as a line of JSON.
func appendLine(to []byte, event apiwatch.EventType, b []byte) []byte {
	to = slices.Grow(to, len(event)+len(b)+24)
	to = append(to, `{"type":"`...)
	to = append(to, event...)
	to = append(to, `","object":`...)
	to = append(to, b...)
	return append(to, "}\n"...)
}

// bookmark tells the watcher how far it has got; end marks where the initial objects end.
func (e *eventWriter) bookmark(rev uint64, end bool) bool {
	o := e.kind.Stored().New()
	o.SetResourceVersion(formatRev(rev))
	if end {
		o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return e.event(apiwatch.Bookmark, o, fleeting)
}

// fail sends an error as the last event.
func (e *eventWriter) fail(err error) {
	if !e.opened {
		e.open()
	}
	st := statusOf(err)
	if e.a.media == mediaProto {
		raw, merr := st.Marshal()
		if merr != nil {
			return
		}
		e.buf = appendFrame(e.buf[:0], string(apiwatch.Error), metav1.Unversioned.WithKind("Status"), raw)
	} else {
		b, merr := json.Marshal(st)
		if merr != nil {
			return
		}
		e.buf = appendLine(e.buf[:0], apiwatch.Error, b)
	}
	if e.write(e.buf) {
		e.flush()
	}
}

func (e *eventWriter) write(b []byte) bool {
	e.dirty = true
	_, err := e.out.Write(b)
	return e.alive(err)
}

// alive tells whether the client is still there after a write. One that does not read is given up: it resumes from the last revision that it
// has seen, or is told then that the history does not reach back so far (410).
func (e *eventWriter) alive(err error) bool {
	if err != nil && e.out.late() {
		e.s.metrics.cutOff(e.kind.GroupResource())
		e.s.cfg.Log.Info("a watcher does not read: its watch is ended", "resource", e.kind.Resource, "client", e.r.RemoteAddr, "user", authz.UserFrom(e.r.Context()).Name,
			"after", e.out.limit)
	}
	return err == nil
}

func (e *eventWriter) flush() bool {
	if !e.dirty {
		return true
	}
	e.dirty = false
	return e.alive(e.out.flush())
}
