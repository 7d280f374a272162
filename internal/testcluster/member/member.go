// Package member runs one bare member of the control plane: the store, the sequencer and etcd's API, wired as the server wires them, but
// without controllers, objects and certificates. Tests start three in one process; the judge and the measurements of the store start one a
// process.
//
// It owns the listeners that it is given. Raft's messages, forwarded writes and etcd's API each have a port of their own, in the clear: never
// let other machines reach them.
package member

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"net/http/httptrace"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"reconcile/controller"
	"reconcile/etcdapi"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Peer is where one member serves, as HOST:PORT.
type Peer struct{ ID, Raft, Forward, Etcd string }

// Config is what a member needs.
type Config struct {
	// ID is this member's; Peers are all members, this one too.
	ID    string
	Peers []Peer
	// Store is completed: folder or storage, times and bounds are the caller's.
	Store raftstore.Config
	// AllowRegistryWrites lets clients write below /registry; without objects and controllers nothing comes of it.
	AllowRegistryWrites bool
	// ProgressEvery and SendTimeout are etcdapi's.
	ProgressEvery, SendTimeout time.Duration
	// Log must be set.
	Log *slog.Logger
}

// Member is one. Close it in the end.
type Member struct {
	Store     *raftstore.Store
	Sequencer *sequencer.Sequencer
	// Done is closed when the member has ended; Err tells why then.
	Done chan struct{}
	Err  error

	stop context.CancelFunc
}

// clusterID is that of all bare clusters.
const clusterID = "bare"

// Start listens on the member's addresses and starts it.
func Start(cfg Config) (*Member, error) {
	var self Peer
	c := cfg.Store
	for _, p := range cfg.Peers {
		if p.ID == cfg.ID {
			self = p
		}
		c.Servers = append(c.Servers, raftstore.Server{ID: p.ID, Address: p.Raft, Voter: true})
	}
	listeners := map[string]net.Listener{}
	for _, addr := range []string{self.Raft, self.Forward, self.Etcd} {
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("start member %q: %w", cfg.ID, err)
		}
		listeners[addr] = ln
	}
	c.ServerID, c.ClusterID, c.Bootstrap, c.Logger = cfg.ID, clusterID, true, cfg.Log
	c.Transport = raftstore.NewTransport(stream{listeners[self.Raft]}, cfg.Log)
	f := newForwarder(cfg.Peers)
	c.Fetch = f.fetchBlob
	store, err := raftstore.Open(c)
	if err != nil {
		return nil, err
	}
	m := &Member{Store: store, Done: make(chan struct{})}
	if m.Sequencer, err = sequencer.New(sequencer.Config{Store: store, Settler: nothing{}, Forwarder: f, Txns: etcdapi.Codec{}, Logger: cfg.Log}); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	api, err := etcdapi.New(etcdapi.Config{
		Store: store, Sequencer: m.Sequencer, AllowRegistryWrites: cfg.AllowRegistryWrites, ProgressEvery: cfg.ProgressEvery, SendTimeout: cfg.SendTimeout, Log: cfg.Log, AskAlarm: f.askAlarm,
		Members: func() (out []etcdapi.Member) {
			for _, p := range cfg.Peers {
				out = append(out, etcdapi.Member{ID: p.ID, Name: p.ID, PeerURLs: []string{"http://" + p.Raft}, ClientURLs: []string{"http://" + p.Etcd}})
			}
			return out
		},
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	go func() {
		m.Err = m.run(ctx, api, f, listeners[self.Etcd], listeners[self.Forward])
		close(m.Done)
	}()
	return m, nil
}

func (m *Member) run(ctx context.Context, api *etcdapi.Server, f *forwarder, etcd, forward net.Listener) error {
	h := &http.Server{Handler: answer{m.Sequencer, m.Store}, ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Store.Run(ctx) })
	g.Go(func() error { return m.Sequencer.Run(ctx) })
	g.Go(func() error { return api.Run(ctx, etcd) })
	g.Go(func() error {
		if err := h.Serve(forward); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve forwarded writes: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return h.Close()
	})
	err := g.Wait()
	f.client.CloseIdleConnections()
	return errors.Join(err, m.Store.Close())
}

// Close stops the member and returns when all of it has ended.
func (m *Member) Close() error {
	m.stop()
	<-m.Done
	return m.Err
}

// stream is raft's connections, in the clear.
type stream struct{ net.Listener }

// Dial implements raft.StreamLayer.
func (stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout}).Dial("tcp", string(address))
}

// nothing is a cluster without controllers.
type nothing struct{}

// Triggers implements sequencer.Settler.
func (nothing) Triggers(controller.View, []controller.Change) []controller.Trigger { return nil }

// Resync implements sequencer.Settler.
func (nothing) Resync(controller.View) []controller.Trigger { return nil }

// Settle implements sequencer.Settler.
func (nothing) Settle(controller.Overlay, []controller.Trigger, time.Time, int, controller.Admit) controller.Outcome {
	return controller.Outcome{}
}

// forwarder brings messages to the leader over HTTP, as the server does.
type forwarder struct {
	client *http.Client
	urls   map[string]string
}

func newForwarder(peers []Peer) *forwarder {
	f := &forwarder{urls: map[string]string{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	for _, p := range peers {
		f.urls[p.ID] = "http://" + p.Forward
	}
	return f
}

// blobPath is where a member serves blobs to the others, alarmPath where it tells its alarms.
const (
	blobPath  = "/blob"
	alarmPath = "/alarm"
)

// askAlarm is etcdapi.Config.AskAlarm.
func (f *forwarder) askAlarm(ctx context.Context, of raftstore.Server) (a etcdapi.Alarm, err error) {
	b, err := f.post(ctx, of.ID, alarmPath, nil)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// fetchBlob is raftstore.Config.Fetch.
func (f *forwarder) fetchBlob(ctx context.Context, from raftstore.Server, digest string) ([]byte, error) {
	return f.post(ctx, from.ID, blobPath, []byte(digest))
}

// Forward implements sequencer.Forwarder.
func (f *forwarder) Forward(ctx context.Context, leader raftstore.Leader, message []byte) ([]byte, error) {
	return f.post(ctx, leader.ID, "/", message)
}

func (f *forwarder) post(ctx context.Context, id, path string, message []byte) ([]byte, error) {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.urls[id]+path, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		if sent.Load() {
			return nil, fmt.Errorf("ask %s: %w: %w", id, raftstore.ErrUnknown, err)
		}
		return nil, fmt.Errorf("ask %s: %w", id, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w: %w", id, raftstore.ErrUnknown, err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusGone:
		return nil, fmt.Errorf("%s: %w", id, raftstore.ErrNoBlob)
	default:
		return nil, fmt.Errorf("%s refused: %s", id, b)
	}
}

// answer serves forwarded messages and blobs.
type answer struct {
	seq   *sequencer.Sequencer
	store *raftstore.Store
}

// ServeHTTP implements http.Handler.
func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
	case r.URL.Path == blobPath:
		b, err = a.store.ServeBlob(string(b))
	case r.URL.Path == alarmPath:
		b, err = json.Marshal(etcdapi.AlarmOf(a.store))
	default:
		b, err = a.seq.Serve(r.Context(), b)
	}
	switch {
	case errors.Is(err, raftstore.ErrNoBlob):
		http.Error(w, err.Error(), http.StatusGone)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(b) // one who asked and is gone does not undo what was done
}
