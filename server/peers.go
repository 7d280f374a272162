package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"reconcile/etcdapi"
	"reconcile/pki"
	"reconcile/raftstore"
	"reconcile/server/usage"
)

// The paths that servers ask each other for, over HTTP/1.1 on connections of ALPN fwd/1.
const (
	pathForward = "/sequencer"
	pathCluster = "/cluster"
	pathJoin    = "/members"
	pathBlob    = "/blob"
	pathAlarm   = "/alarm"
	pathUsage   = "/usage"
	pathMetrics = "/metrics"
)

// maxMessage bounds a forwarded message.
const maxMessage = 256 << 20

// peers is how this member speaks to the others.
type peers struct {
	identity pki.Identity
	pool     *x509.CertPool
	client   *http.Client
}

func newPeers(id pki.Identity, pool *x509.CertPool) *peers {
	p := &peers{identity: id, pool: pool}
	p.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return pki.Dial(ctx, addr, pki.ProtoForward, id, pool)
		},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}}
	return p
}

// close ends the idle connections.
func (p *peers) close() { p.client.CloseIdleConnections() }

// post sends a message to a member and returns its answer. An error that is not raftstore.ErrUnknown means that the member has not
// acted on it.
func (p *peers) post(ctx context.Context, addr, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	var sent atomic.Bool
	res, err := p.client.Do(req.WithContext(withWrote(ctx, &sent)))
	if err != nil {
		if sent.Load() {
			return nil, fmt.Errorf("ask server %s: %w: %w", addr, raftstore.ErrUnknown, err)
		}
		return nil, fmt.Errorf("ask server %s: %w", addr, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("read the answer of server %s: %w: %w", addr, raftstore.ErrUnknown, err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusGone:
		return nil, fmt.Errorf("server %s: %w", addr, raftstore.ErrNoBlob)
	default:
		return nil, fmt.Errorf("server %s refused: %s", addr, bytes.TrimSpace(b))
	}
}

// Forward implements sequencer.Forwarder.
func (p *peers) Forward(ctx context.Context, leader raftstore.Leader, message []byte) ([]byte, error) {
	return p.post(ctx, leader.Address, pathForward, message)
}

// FetchBlob asks another server for a blob; it is raftstore.Config.Fetch.
func (p *peers) FetchBlob(ctx context.Context, from raftstore.Server, digest string) ([]byte, error) {
	return p.post(ctx, from.Address, pathBlob, []byte(digest))
}

// AskAlarm is etcdapi.Config.AskAlarm.
func (p *peers) AskAlarm(ctx context.Context, of raftstore.Server) (a etcdapi.Alarm, err error) {
	b, err := p.post(ctx, of.Address, pathAlarm, nil)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// member is the message by which a server asks to be taken in.
type member struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// Applied is how far its state has come, as an index of the log.
	Applied uint64 `json:"applied"`
}

// standing answers it: what the server is in the cluster now.
type standing struct {
	Voter bool `json:"voter"`
}

// welcome says which cluster this is, so that the one who joins takes its ID, and which server answers.
type welcome struct {
	ClusterID string `json:"clusterID"`
	ServerID  string `json:"serverID"`
}

// peerService is what a member does for the others.
type peerService struct {
	store *raftstore.Store
	peers *peers
	// serve answers a forwarded message of a sequencer.
	serve func(ctx context.Context, message []byte) ([]byte, error)
	// usage is what pods use, and metrics what they told of themselves, if this server leads.
	usage   func() *usage.Table
	metrics func() *usage.Metrics
}

// handler serves the connections of ALPN fwd/1, which pki.Mux opens to servers only.
func (s *peerService) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathForward, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
		if err == nil {
			b, err = s.serve(r.Context(), b)
		}
		respond(w, b, err)
	})
	mux.HandleFunc("POST "+pathCluster, func(w http.ResponseWriter, _ *http.Request) {
		id := s.store.Identity()
		b, err := json.Marshal(welcome{ClusterID: id.ClusterID, ServerID: id.ServerID})
		respond(w, b, err)
	})
	mux.HandleFunc("POST "+pathAlarm, func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(etcdapi.AlarmOf(s.store))
		respond(w, b, err)
	})
	mux.HandleFunc("POST "+pathUsage, s.leading(func() any { return s.usage() }))
	mux.HandleFunc("POST "+pathMetrics, s.leading(func() any { return s.metrics() }))
	mux.HandleFunc("POST "+pathBlob, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		if err == nil {
			b, err = s.store.ServeBlob(string(b))
		}
		respond(w, b, err)
	})
	mux.HandleFunc("POST "+pathJoin, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil {
			b, err = s.join(r.Context(), b)
		}
		respond(w, b, err)
	})
	return mux
}

// leading answers what only the leader knows.
func (s *peerService) leading(known func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !s.store.Leader().Self {
			respond(w, nil, errors.New("this server does not lead"))
			return
		}
		b, err := json.Marshal(known())
		respond(w, b, err)
	}
}

// respond writes an answer, or why there is none. One who asked and is gone does not undo what was done.
func respond(w http.ResponseWriter, b []byte, err error) {
	if err != nil {
		code := http.StatusServiceUnavailable
		if errors.Is(err, raftstore.ErrNoBlob) {
			code = http.StatusGone // told apart from any other refusal, as from a path that nobody serves
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b)
}
