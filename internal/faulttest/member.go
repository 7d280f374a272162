package faulttest

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/etcdapi"
	"reconcile/internal/fp"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Main runs the tests, or one member if this process was started as one. It does not return.
func Main(m *testing.M) {
	if raw := os.Getenv(memberVariable); raw != "" {
		var cfg memberConfig
		err := json.Unmarshal([]byte(raw), &cfg)
		if err == nil {
			err = runMember(cfg)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := firstOf(setSeed(), makeTable()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := printTable(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// member is one process of the store under test.
type member struct {
	store  *raftstore.Store
	seq    *sequencer.Sequencer
	client *http.Client
}

// runMember serves until SIGTERM (nil) or until the store stops by a fault.
func runMember(cfg memberConfig) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	go func() { // the test holds the other end: when it is gone, so is its member
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	rpc, err := net.Listen("tcp", net.JoinHostPort(cfg.Address, rpcPort))
	if err != nil {
		return fmt.Errorf("listen for the tests: %w", err)
	}
	wire, err := net.Listen("tcp", net.JoinHostPort(cfg.Address, raftPort))
	if err != nil {
		return fmt.Errorf("listen for raft: %w", err)
	}
	etcd, err := net.Listen("tcp", net.JoinHostPort(cfg.Address, etcdPort))
	if err != nil {
		return fmt.Errorf("listen for etcd's clients: %w", err)
	}
	m := &member{client: &http.Client{}}
	conf := storeConfig(cfg, raftstore.NewTransport(plain{wire}, log), log)
	conf.Fetch = m.fetchBlob
	store, err := raftstore.Open(conf)
	if err != nil {
		return err
	}
	m.store = store
	if m.seq, err = sequencer.New(sequencer.Config{Store: store, Settler: idle{}, Forwarder: m, Txns: etcdapi.Codec{}, Logger: log}); err != nil {
		return err
	}
	api, err := etcdapi.New(etcdapi.Config{Store: store, Sequencer: m.seq, Log: log, Members: func() []etcdapi.Member {
		return []etcdapi.Member{{ID: cfg.ID, Name: cfg.ID, ClientURLs: []string{"http://" + etcd.Addr().String()}}}
	}})
	if err != nil {
		return err
	}
	ran := make(chan error, 2)
	go func() { ran <- m.seq.Run(ctx) }()
	go func() { ran <- api.Run(ctx, etcd) }()
	srv := &http.Server{Handler: m.handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = srv.Serve(rpc) }()
	fmt.Println(servingLine)
	select {
	case <-ctx.Done():
	case <-store.Failed():
		// Nothing is waited for: the process ends, as the server's does.
		return store.Run(context.Background())
	}
	_ = srv.Close()
	return errors.Join(<-ran, <-ran, store.Close())
}

func storeConfig(cfg memberConfig, t raft.Transport, log *slog.Logger) raftstore.Config {
	c := raftstore.Config{Dir: cfg.Dir, ServerID: cfg.ID, ClusterID: "faulttest", Transport: t, Logger: log,
		Heartbeat:       time.Duration(cfg.HeartbeatMillis) * time.Millisecond,
		SnapshotEntries: cfg.SnapshotEntries, TrailingEntries: cfg.TrailingEntries, SnapshotInterval: 500 * time.Millisecond,
		HistoryEvents: 1 << 20, HistoryBytes: 512 << 20, Index: cluster.Index}
	c.Bootstrap, c.Join = cfg.Fresh && len(cfg.Peers) > 0, cfg.Fresh && len(cfg.Peers) == 0
	for id, ip := range cfg.Peers {
		c.Servers = append(c.Servers, raftstore.Server{ID: id, Address: net.JoinHostPort(ip, raftPort), Voter: true})
	}
	sort.Slice(c.Servers, func(i, j int) bool { return c.Servers[i].ID < c.Servers[j].ID })
	return c
}

// plain is raft's stream layer without TLS.
type plain struct{ net.Listener }

// Dial implements raft.StreamLayer.
func (plain) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// idle is a Settler without controllers.
type idle struct{}

// Triggers implements sequencer.Settler.
func (idle) Triggers(controller.View, []controller.Change) []controller.Trigger { return nil }

// Resync implements sequencer.Settler.
func (idle) Resync(controller.View) []controller.Trigger { return nil }

// Settle implements sequencer.Settler.
func (idle) Settle(controller.Overlay, []controller.Trigger, time.Time, int, controller.Admit) controller.Outcome {
	return controller.Outcome{}
}

// fetchBlob is raftstore.Config.Fetch.
func (m *member) fetchBlob(ctx context.Context, from raftstore.Server, digest string) ([]byte, error) {
	host, _, err := net.SplitHostPort(from.Address)
	if err != nil {
		return nil, err
	}
	return post(ctx, m.client, host, "/blob", []byte(digest))
}

// Forward implements sequencer.Forwarder, as the server does it: what was not sent did not happen.
func (m *member) Forward(ctx context.Context, leader raftstore.Leader, message []byte) ([]byte, error) {
	host, _, err := net.SplitHostPort(leader.Address)
	if err != nil {
		return nil, err
	}
	sent, ctx := noteSent(ctx)
	b, err := post(ctx, m.client, host, "/forward", message)
	if err != nil && sent.Load() {
		return nil, fmt.Errorf("%w: %w", raftstore.ErrUnknown, err)
	}
	return b, err
}

// noteSent gives a context whose request sets sent as soon as the other end may have read it.
func noteSent(ctx context.Context) (*atomic.Bool, context.Context) {
	var sent atomic.Bool
	return &sent, httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
}

// post sends a body to a member and returns its answer.
func post(ctx context.Context, c *http.Client, host, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+net.JoinHostPort(host, rpcPort)+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("%s: %w", host, raftstore.ErrNoBlob)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", res.Status, b)
	}
	return b, nil
}

func (m *member) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /forward", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			b, err = m.seq.Serve(r.Context(), b)
		}
		answer(w, b, err)
	})
	mux.HandleFunc("POST /blob", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			b, err = m.store.ServeBlob(string(b))
		}
		answer(w, b, err)
	})
	mux.HandleFunc("POST /op", func(w http.ResponseWriter, r *http.Request) {
		var in input
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			answer(w, nil, err)
			return
		}
		b, err := json.Marshal(m.operate(r.Context(), in))
		answer(w, b, err)
	})
	mux.HandleFunc("GET /watch", m.watch)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		b, err := json.Marshal(m.status(r.FormValue("digest") != ""))
		answer(w, b, err)
	})
	mux.HandleFunc("POST /failpoints", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = fp.Set(string(b))
		}
		answer(w, nil, err)
	})
	mux.HandleFunc("POST /admin", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, m.admin(r.Context(), r.FormValue("do"), r.FormValue("id"), r.FormValue("address")))
	})
	return mux
}

func answer(w http.ResponseWriter, b []byte, err error) {
	switch {
	case errors.Is(err, raftstore.ErrNoBlob):
		http.Error(w, err.Error(), http.StatusGone)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(b) // one who asked and is gone changes nothing
}

// operate performs one operation by the ways that the server has.
func (m *member) operate(ctx context.Context, in input) output {
	if in.Kind == opObjectGet || in.Kind == opObjectSet {
		return m.operateObject(ctx, in)
	}
	if in.Kind == opGet {
		if err := m.seq.Barrier(ctx); err != nil {
			return output{Failed: err.Error()}
		}
		r, ok := m.store.View().Get(in.Key)
		if !ok {
			return output{}
		}
		return output{Value: string(r.Value)}
	}
	raw := sequencer.Raw{Key: in.Key}
	if in.Kind != opDelete {
		raw.Value = []byte(in.Value)
	}
	if in.Kind == opCAS {
		raw.Check = true
		if in.Expect != "" {
			raw.Expect = []byte(in.Expect)
		}
	}
	res, err := m.seq.Submit(ctx, sequencer.Request{Raw: []sequencer.Raw{raw}})
	switch {
	case err == nil:
		return output{Rev: res.Rev}
	case errors.Is(err, sequencer.ErrStale):
		return output{Stale: true}
	case certain(err):
		return output{Failed: err.Error()}
	}
	return output{Unknown: err.Error()}
}

// certain tells whether an error says that nothing was changed (sequencer.Submit lists them).
func certain(err error) bool {
	if apierrors.IsTimeout(err) {
		seconds, retry := apierrors.SuggestsClientDelay(err)
		return retry && seconds > 0
	}
	return apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsBadRequest(err)
}

// watch streams the events after revision "from", a line each, and a line for each revision that the watch has come to without one.
func (m *member) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseUint(r.FormValue("from"), 10, 64)
	if err != nil {
		answer(w, nil, err)
		return
	}
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	in, err := m.store.Watch(keyPrefix, from)
	for err == nil {
		var events []*raftstore.Event
		var upTo uint64
		ctx, cancel := context.WithTimeout(r.Context(), 200*time.Millisecond)
		events, upTo, err = in.Next(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
			err = nil // a quiet time: say how far the watch has come
		}
		for _, e := range events {
			if werr := out.Encode(event{Rev: e.Rev, Key: e.Key, Value: string(e.Rec.Value), Deleted: e.Deleted}); werr != nil {
				return
			}
		}
		if err == nil {
			if werr := errors.Join(out.Encode(event{Rev: upTo}), flush()); werr != nil {
				return
			}
		}
	}
	if errors.Is(err, raftstore.ErrCompacted) {
		_ = out.Encode(event{Gone: true}) // the reader may be gone as well
	}
}

func (m *member) status(withDigest bool) Status {
	v, l := m.store.View(), m.store.Leader()
	s := Status{ID: m.store.Identity().ServerID, Leader: l.ID, Self: l.Self, Term: l.Term, Rev: v.Rev(), Hits: fp.Hits()}
	if withDigest {
		s.Digest = digest(v)
	}
	return s
}

// digest is over everything that a view shows.
func digest(v *raftstore.View) string {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(p)))
			_, _ = h.Write(n[:]) // never fails
			_, _ = h.Write([]byte(p))
		}
	}
	put(fmt.Sprint(v.Rev(), v.Time().UnixNano(), v.Len()))
	for r := range v.Range("") {
		put(r.Key, string(r.Value), fmt.Sprint(r.ModRev, r.CreateRev, r.Version))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stageBlob stages a new blob and has the key name hold it, instead of the one before; and writes a value that is so large that it is staged, and forgotten
// when it is there. Only the leader can.
func (m *member) stageBlob(ctx context.Context, name string) error {
	body := make([]byte, 400<<10)
	_, _ = cryptorand.Read(body) // never fails
	digest, err := m.store.StageBlob(ctx, body)
	if err != nil {
		return err
	}
	_, err = m.seq.Submit(ctx, sequencer.Request{Raw: []sequencer.Raw{{Key: "/blobs/" + name, Value: []byte(digest)}}, Blobs: []string{digest}})
	if err != nil {
		return err
	}
	_, err = m.seq.Submit(ctx, sequencer.Request{Raw: []sequencer.Raw{{Key: "/large/" + name, Value: body}}})
	return err
}

// admin stages a blob, changes the membership, takes a snapshot or hands leadership over.
func (m *member) admin(ctx context.Context, do, id, address string) error {
	switch do {
	case "add-voter":
		return m.store.AddVoter(ctx, id, address)
	case "add-nonvoter":
		return m.store.AddNonvoter(ctx, id, address)
	case "remove":
		return m.store.RemoveServer(ctx, id)
	case "transfer":
		return m.store.TransferLeadership(ctx)
	case "snapshot":
		return m.store.Snapshot()
	case "blob":
		return m.stageBlob(ctx, id)
	case "namespace":
		return m.makeNamespace(ctx)
	}
	return fmt.Errorf("unknown %q", do)
}
