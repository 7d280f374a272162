package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// spdy serves a session over SPDY/3.1: one stream for each of the command's ends, opened by the client and named by a header, and one for how it ended.
// The command ends with the client's connection, whether or not it says or reads anything: nobody would learn what becomes of it.
// The names of streams and protocols are those of k8s.io/cri-streaming.
func (h handler) spdy(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, do work) {
	protocol, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name, remotecommand.StreamProtocolV3Name,
		remotecommand.StreamProtocolV2Name, remotecommand.StreamProtocolV1Name})
	if err != nil {
		h.log.Debug("SPDY handshake failed", "path", r.URL.Path, "err", err)
		return // the client has been told
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ends := newEnds(o, protocol)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(&endingWriter{ResponseWriter: w, ctx: ctx}, r, ends.take)
	if conn == nil {
		return // the client has been told
	}
	conn.SetIdleTimeout(idleTimeout)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	defer func() { _ = conn.Close() }()
	watches.Go(func() {
		select {
		case <-conn.CloseChan():
			cancel()
		case <-ctx.Done():
		}
	})
	if err := ends.await(ctx, h.creation); err != nil {
		h.log.Debug("a session has no streams", "path", r.URL.Path, "err", err)
		return
	}
	s := Streams{TTY: o.TTY}
	if in := ends.open[remotecommand.StreamTypeStdin]; in != nil {
		s.Stdin = in
	}
	if out := ends.open[remotecommand.StreamTypeStdout]; out != nil {
		s.Stdout = out
	}
	if errs := ends.open[remotecommand.StreamTypeStderr]; errs != nil {
		s.Stderr = errs
	}
	if size := ends.open[remotecommand.StreamTypeResize]; size != nil {
		resize := make(chan Size)
		s.Resize = resize
		watches.Go(func() {
			defer close(resize)
			readSizes(ctx, size, resize)
		})
	}
	code, err := do(ctx, s)
	if end := ending(protocol, status(code, err)); len(end) > 0 {
		_, _ = ends.open[remotecommand.StreamTypeError].Write(end)
	}
}

// ending is how a command ended, as a version of the protocol tells it: before the fourth only a failure is, in words.
func ending(protocol string, st metav1.Status) []byte {
	if protocol == remotecommand.StreamProtocolV4Name {
		b, err := json.Marshal(st)
		if err != nil {
			return []byte(err.Error())
		}
		return b
	}
	if st.Status == metav1.StatusSuccess {
		return nil
	}
	return []byte(st.Message)
}

// ends are the streams of one session.
type ends struct {
	// came has, for every stream that was taken, what is closed when the client has been told that it is open: nothing may be closed before. It has
	// room for all that are wanted.
	came chan (<-chan struct{})

	mu   sync.Mutex
	open map[string]httpstream.Stream
	// wanted tells which streams must be opened; others are refused.
	wanted map[string]bool
}

func newEnds(o *remotecommand.Options, protocol string) *ends {
	sizes := protocol == remotecommand.StreamProtocolV4Name || protocol == remotecommand.StreamProtocolV3Name
	e := &ends{open: map[string]httpstream.Stream{}, wanted: map[string]bool{remotecommand.StreamTypeError: true}}
	for kind, on := range map[string]bool{
		remotecommand.StreamTypeStdin: o.Stdin, remotecommand.StreamTypeStdout: o.Stdout, remotecommand.StreamTypeStderr: o.Stderr,
		remotecommand.StreamTypeResize: o.TTY && sizes,
	} {
		if on {
			e.wanted[kind] = true
		}
	}
	e.came = make(chan (<-chan struct{}), len(e.wanted))
	return e
}

// take accepts a stream, or refuses it by an error. It does not block.
func (e *ends) take(s httpstream.Stream, replied <-chan struct{}) error {
	kind := s.Headers().Get(remotecommand.StreamType)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.wanted[kind] || e.open[kind] != nil {
		return fmt.Errorf("a stream %q was not asked for", kind)
	}
	e.open[kind] = s
	e.came <- replied
	return nil
}

// await returns when all streams are open, or with the reason why they will not be. After it nobody writes open.
func (e *ends) await(ctx context.Context, limit time.Duration) error {
	expired := time.NewTimer(limit)
	defer expired.Stop()
	for range len(e.wanted) {
		var replied <-chan struct{}
		select {
		case replied = <-e.came:
		case <-ctx.Done():
			return ctx.Err()
		case <-expired.C:
			return errors.New("they were not opened in time")
		}
		select {
		case <-replied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
