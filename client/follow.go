package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"reconcile/object"
)

const (
	// watchLife is the least life of one watch; at most twice as much, by chance. Then it is resumed, perhaps at another server.
	watchLife = 5 * time.Minute
	// maxFrame bounds one event.
	maxFrame = 16 << 20
)

// Follow gives r the whole selection and then each change, until ctx ends. When the connection breaks it goes on from the last
// revision it has seen, at the same server or at another; when the past is no longer kept (410) it lists again and r gets a
// Replace. It returns ctx's error, or one that trying again cannot cure (no such resource, no right, a bad selector).
func (c *Client) Follow(ctx context.Context, sel object.Selection, r object.Receiver) error {
	k, err := kindOf(sel.Resource)
	if err != nil {
		return err
	}
	f := follower{c: c, sel: sel, kind: k, to: r}
	for failures := 0; ; {
		progress, err := f.once(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && progress:
			failures = 0
			continue
		case hopeless(err):
			return fmt.Errorf("follow %s: %w", sel.Resource, err)
		case progress:
			failures = 0
		}
		// A watch that ends at once and brings nothing is a failure too, though no error.
		c.cfg.Log.Debug("watch broke off", "resource", sel.Resource, "err", err)
		if err := c.pause(ctx, failures); err != nil {
			return err
		}
		failures++
	}
}

// hopeless tells whether an error will be the same however often the request is sent.
func hopeless(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) ||
		apierrors.IsNotAcceptable(err) || apierrors.IsInvalid(err)
}

// follower is one Follow.
type follower struct {
	c    *Client
	sel  object.Selection
	kind object.Kind
	to   object.Receiver
	// rev is the last revision seen; empty before the first list, and when the past is lost.
	rev string
	// listed tells that the receiver has a whole set that rev continues.
	listed bool
}

// once lists, if that is needed, and watches until the watch ends. progress tells whether anything was received.
func (f *follower) once(ctx context.Context) (progress bool, err error) {
	if !f.listed {
		// The first list may be of any state, a later one must not be older than what was seen.
		want := f.rev
		if want == "" {
			want = "0"
		}
		items, rev, err := f.c.list(ctx, f.sel, want)
		if tooNew(err) {
			// The cluster was restored from a backup, or this server is far behind: ask for the newest state.
			items, rev, err = f.c.list(ctx, f.sel, "")
		}
		if err != nil {
			return false, err
		}
		f.to.Replace(items)
		f.rev, f.listed, progress = rev, true, true
	}
	seen, err := f.watch(ctx)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || tooNew(err) {
		f.listed = false
		return true, nil
	}
	return progress || seen, err
}

func tooNew(err error) bool {
	return err != nil && apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

func (f *follower) watch(ctx context.Context) (seen bool, err error) {
	q := query(f.sel, f.rev)
	life := watchLife + rand.N(watchLife)
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("timeoutSeconds", strconv.Itoa(int(life.Seconds())))
	// The server ends the watch; this is for one that does not.
	ctx, cancel := context.WithTimeout(ctx, life+requestLimit)
	defer cancel()
	res, err := f.c.send(ctx, request{method: http.MethodGet, path: pathOf(f.kind, f.sel.Namespace, "", ""), query: q})
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		return false, statusError(res)
	}
	began := time.Now()
	next := jsonEvents(res.Body, f.kind)
	if isProto(res.Header.Get("Content-Type")) {
		next = protoEvents(res.Body)
	}
	for {
		event, o, err := next()
		if errors.Is(err, io.EOF) {
			return seen || time.Since(began) > watchLife/2, nil
		}
		if err != nil {
			return seen, err
		}
		seen = true
		switch event {
		case watch.Added, watch.Modified:
			f.to.Upsert(o)
		case watch.Deleted:
			f.to.Remove(object.KeyOf(o))
		}
		f.rev = o.GetResourceVersion()
	}
}

// events yields one event after another; an ERROR event is an error, the end io.EOF.
type events func() (watch.EventType, object.Object, error)

func jsonEvents(body io.Reader, k object.Kind) events {
	d := json.NewDecoder(body)
	return func() (watch.EventType, object.Object, error) {
		var e struct {
			Type   watch.EventType `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := d.Decode(&e); err != nil {
			return "", nil, err
		}
		if e.Type == watch.Error {
			var st metav1.Status
			if err := json.Unmarshal(e.Object, &st); err != nil {
				return "", nil, fmt.Errorf("read an error event: %w", err)
			}
			return "", nil, &apierrors.StatusError{ErrStatus: st}
		}
		o, err := decode(e.Object, mediaJSON, k)
		return e.Type, o, err
	}
}

func protoEvents(body io.Reader) events {
	in := bufio.NewReaderSize(body, 64<<10)
	return func() (watch.EventType, object.Object, error) {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return "", nil, err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxFrame {
			return "", nil, fmt.Errorf("an event of %d bytes is over the limit of %d", n, maxFrame)
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(in, frame); err != nil {
			return "", nil, fmt.Errorf("read an event: %w", io.ErrUnexpectedEOF)
		}
		var e metav1.WatchEvent
		if err := e.Unmarshal(frame); err != nil {
			return "", nil, fmt.Errorf("read an event: %w", err)
		}
		if watch.EventType(e.Type) == watch.Error {
			return "", nil, protoStatus(e.Object.Raw)
		}
		o, err := object.Decode(e.Object.Raw)
		return watch.EventType(e.Type), o, err
	}
}

func protoStatus(raw []byte) error {
	var u runtime.Unknown
	var st metav1.Status
	if len(raw) < 4 || u.Unmarshal(raw[4:]) != nil || st.Unmarshal(u.Raw) != nil {
		return errors.New("the server sent an error that cannot be read")
	}
	return &apierrors.StatusError{ErrStatus: st}
}
