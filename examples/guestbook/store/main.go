// Command store is the guestbook's data store: a list of entries in memory, appended to a file so that a restart of the
// container keeps them.
//
// It owns the file entries.jsonl in its data folder. GET /entries answers all entries as JSON, POST /entries adds one.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// entry is one line in the guestbook.
type entry struct {
	Name string    `json:"name"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
}

const maxEntry = 4 << 10

type store struct {
	mu      sync.Mutex
	file    *os.File
	entries []entry
}

func open(dir string) (*store, error) {
	path := filepath.Join(dir, "entries.jsonl")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the entries: %w", err)
	}
	s := &store{file: f}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			slog.Warn("skip an unreadable entry", "file", path, "error", err)
			continue
		}
		s.entries = append(s.entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

func (s *store) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("append an entry: %w", err)
	}
	s.entries = append(s.entries, e)
	return nil
}

func (s *store) list() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]entry{}, s.entries...)
}

func (s *store) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /entries", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.list()); err != nil {
			slog.Warn("answer with the entries", "error", err)
		}
	})
	mux.HandleFunc("POST /entries", func(w http.ResponseWriter, r *http.Request) {
		var e entry
		if err := json.NewDecoder(io.LimitReader(r.Body, maxEntry)).Decode(&e); err != nil || e.Text == "" {
			http.Error(w, `want JSON {"name": ..., "text": ...} with a text`, http.StatusBadRequest)
			return
		}
		e.Time = time.Now().UTC()
		if err := s.add(e); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	return mux
}

func main() {
	addr := flag.String("addr", ":6380", "address to listen on")
	dir := flag.String("data", "/data", "folder that holds the entries")
	flag.Parse()
	if err := run(*addr, *dir); err != nil {
		slog.Error("store stopped", "error", err)
		os.Exit(1)
	}
}

func run(addr, dir string) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	srv := &http.Server{Addr: addr, Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	slog.Info("store serves", "addr", addr, "entries", len(s.list()))
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(srv.Shutdown(grace), s.file.Close())
}
