// Command member runs one bare member of the control plane (internal/testcluster/member) as a process, for measurements of the store and for
// etcd's own judge. It prints `ready` when a write is served.
//
//	member -id 1 -data-dir DIR -peers 1=127.0.0.1:7001/127.0.0.1:7101/127.0.0.1:7201,2=...
//
// where the three addresses of a peer are those of raft, of forwarded writes and of etcd's API.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // only where -pprof asks for it
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"reconcile/internal/gcpace"
	"reconcile/internal/testcluster/member"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "member:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	id := flag.String("id", "1", "this member")
	dir := flag.String("data-dir", "", "folder for the store")
	list := flag.String("peers", "", "all members: ID=RAFT/FORWARD/ETCD,...")
	heartbeat := flag.Duration("heartbeat", time.Second, "time without a leader after which a member stands for election")
	first := flag.Bool("first-revision", false, "write one hidden key in an empty store: etcd begins with revision 1")
	progress := flag.Duration("progress-every", 10*time.Minute, "how often quiet watches are told how far they have come")
	keep := flag.Bool("keep-history", false, "never compact by itself")
	snapshots := flag.Uint64("snapshot-entries", 0, "entries between snapshots, looked at every half second; 0 for the store's own figures")
	trailing := flag.Uint64("trailing-entries", 0, "with -snapshot-entries: how many entries the log keeps behind a snapshot")
	record := flag.String("record", "", "file to which every applied entry is written as a line of JSON")
	profile := flag.String("cpu-profile", "", "file for a profile of the processor's time")
	debug := flag.String("pprof", "", "address at which profiles of this process are served (net/http/pprof)")
	level := flag.Int("log-level", int(slog.LevelWarn), "slog's number")
	flag.Parse()
	var peers []member.Peer
	for _, p := range strings.Split(*list, ",") {
		name, addrs, _ := strings.Cut(p, "=")
		a := strings.Split(addrs, "/")
		if len(a) != 3 {
			return fmt.Errorf("-peers: %q is not ID=RAFT/FORWARD/ETCD", p)
		}
		peers = append(peers, member.Peer{ID: name, Raft: a[0], Forward: a[1], Etcd: a[2]})
	}
	store := raftstore.Config{Dir: filepath.Join(*dir, "store"), Heartbeat: *heartbeat, SnapshotEntries: *snapshots}
	if *snapshots > 0 {
		store.TrailingEntries, store.SnapshotInterval = *trailing, 500*time.Millisecond
	}
	if *keep {
		store.RetainAge, store.RetainRevisions, store.RetainBytes = 1000*time.Hour, 1<<60, 1<<40
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	go gcpace.Run(ctx)
	if *debug != "" {
		if err := serveProfiles(ctx, *debug); err != nil {
			return err
		}
	}
	if *record != "" {
		f, err := os.OpenFile(*record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString("\n"); err != nil { // a kill may have cut the last line
			return err
		}
		lines := json.NewEncoder(f)
		store.Trace = func(index uint64, ops []raftstore.TracedOp) {
			// What cannot be recorded makes the judge see less, and say so.
			_ = lines.Encode(struct {
				Index uint64               `json:"index"`
				Ops   []raftstore.TracedOp `json:"ops"`
			}{index, ops})
		}
	}
	m, err := member.Start(member.Config{
		ID: *id, Peers: peers, Store: store, AllowRegistryWrites: true, ProgressEvery: *progress,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.Level(*level)})),
	})
	if err != nil {
		return err
	}
	if err := ready(ctx, m, *first); err != nil {
		return errors.Join(err, m.Close())
	}
	fmt.Println("ready")
	select {
	case <-ctx.Done():
	case <-m.Done:
	}
	return m.Close()
}

// serveProfiles serves the process's profiles, among them those of blocking and of locks, until ctx ends.
func serveProfiles(ctx context.Context, addr string) error {
	runtime.SetBlockProfileRate(1_000_000)
	runtime.SetMutexProfileFraction(100)
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve profiles: %w", err)
	}
	h := &http.Server{Handler: http.DefaultServeMux, ReadHeaderTimeout: time.Second}
	context.AfterFunc(ctx, func() { _ = h.Close() })
	go func() { _ = h.Serve(ln) }()
	return nil
}

// ready waits until there is a leader, and on it makes the first revision.
func ready(ctx context.Context, m *member.Member, first bool) error {
	for ctx.Err() == nil {
		turn, cancel := context.WithTimeout(ctx, time.Second)
		err := m.Sequencer.Barrier(turn)
		if err == nil && first && m.Store.View().Rev() == 0 {
			_, err = m.Sequencer.Submit(turn, sequencer.Request{Raw: []sequencer.Raw{{Key: "/reconcile/first", Value: []byte("1"), Check: true}}})
			if errors.Is(err, sequencer.ErrStale) {
				err = nil
			}
			if err == nil {
				err = m.Store.WaitRev(turn, 1)
			}
		}
		cancel()
		if err == nil {
			return nil
		}
	}
	return ctx.Err()
}
