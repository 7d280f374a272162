package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// streamTimeouts: an idle connection is kept this long, and streams must be opened within the other.
const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

// options reads which streams are asked for, in the API's spelling (stdin) and the kubelet's (input).
func options(r *http.Request) (*remotecommand.Options, error) {
	q := r.URL.Query()
	on := func(names ...string) bool {
		for _, n := range names {
			if b, err := strconv.ParseBool(q.Get(n)); err == nil && b {
				return true
			}
		}
		return false
	}
	o := &remotecommand.Options{Stdin: on("input", "stdin"), Stdout: on("output", "stdout"), Stderr: on("error", "stderr"), TTY: on("tty")}
	if o.TTY {
		o.Stderr = false
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, fmt.Errorf("at least one of stdin, stdout and stderr must be asked for")
	}
	return o, nil
}

// work is what a session does with its streams; code is the exit code.
type work func(ctx context.Context, s Streams) (code int, err error)

func (h handler) exec(w http.ResponseWriter, r *http.Request) {
	ns, pod, ctr := target(r)
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		http.Error(w, "no command was given", http.StatusBadRequest)
		return
	}
	h.session(w, r, func(ctx context.Context, s Streams) (int, error) {
		return h.b.Exec(ctx, ns, pod, ctr, command, s)
	})
}

func (h handler) attach(w http.ResponseWriter, r *http.Request) {
	ns, pod, ctr := target(r)
	h.session(w, r, func(ctx context.Context, s Streams) (int, error) { return 0, h.b.Attach(ctx, ns, pod, ctr, s) })
}

// session opens the client's streams by WebSocket or SPDY, does the work and tells how it ended.
func (h handler) session(w http.ResponseWriter, r *http.Request, do work) {
	o, err := options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if wsstream.IsWebSocketRequest(r) {
		h.websocket(w, r, o, do)
		return
	}
	h.spdy(w, r, o, do)
}

// websocket serves channel protocol v5 (with its CLOSE of stdin) and v4. https://kep.k8s.io/4006
func (h handler) websocket(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, do work) {
	either := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  either(o.Stdin, wsstream.ReadChannel),
		remotecommand.StreamStdOut: either(o.Stdout, wsstream.WriteChannel),
		remotecommand.StreamStdErr: either(o.Stderr, wsstream.WriteChannel),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	protocols := map[string]wsstream.ChannelProtocolConfig{}
	for _, v := range []string{"v5.", "v4."} {
		protocols[v+wsstream.ChannelWebSocketProtocol] = wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}
	}
	protocols["v4."+wsstream.Base64ChannelWebSocketProtocol] = wsstream.ChannelProtocolConfig{Channels: channels}
	conn := wsstream.NewConn(protocols)
	conn.SetIdleTimeout(idleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		h.log.Debug("websocket upgrade failed", "path", r.URL.Path, "err", err)
		return
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := Streams{TTY: o.TTY}
	if o.Stdin {
		s.Stdin = streams[remotecommand.StreamStdIn]
	}
	if o.Stdout {
		s.Stdout = streams[remotecommand.StreamStdOut]
	}
	if o.Stderr {
		s.Stderr = streams[remotecommand.StreamStdErr]
	}
	resize := make(chan Size)
	s.Resize = resize
	go func() {
		defer close(resize)
		defer cancel() // the resize channel ends with the connection: the client is gone
		readSizes(ctx, streams[remotecommand.StreamResize], resize)
	}()
	// An empty message tells the client that the connection stands.
	for _, c := range []int{remotecommand.StreamStdOut, remotecommand.StreamStdErr, remotecommand.StreamErr} {
		if channels[c] == wsstream.WriteChannel {
			_, _ = streams[c].Write(nil)
			break
		}
	}
	code, err := do(ctx, s)
	b, err := json.Marshal(status(code, err))
	if err == nil {
		_, _ = streams[remotecommand.StreamErr].Write(b)
	}
}

func readSizes(ctx context.Context, r io.Reader, out chan<- Size) {
	for d := json.NewDecoder(r); ; {
		var s Size
		if d.Decode(&s) != nil {
			return
		}
		select {
		case out <- s:
		case <-ctx.Done():
			return
		}
	}
}

// status is how a command ended, as the error channel tells it.
func status(code int, err error) metav1.Status {
	switch {
	case err != nil:
		return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: "error executing command in container: " + err.Error()}
	case code != 0:
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit code %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}}}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}
