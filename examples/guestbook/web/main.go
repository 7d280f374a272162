// Command web is the guestbook's front end: one page that shows the entries and takes new ones.
//
// It keeps nothing: entries are in the store, whose address is in $STORE_URL. $TITLE is the page's title and $POD_NAME the
// name that the page shows, so that a visitor sees which replica has answered.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const page = `<!doctype html>
<title>{{.Title}}</title>
<h1>{{.Title}}</h1>
<p>answered by {{.Pod}}</p>
<ul>
{{- range .Entries}}
<li><b>{{.Name}}</b>: {{.Text}}</li>
{{- else}}
<li>nobody has signed yet</li>
{{- end}}
</ul>
<form method="post" action="/"><input name="name" placeholder="your name"> <input name="text" placeholder="a line" required> <button>sign</button></form>
`

type entry struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

type web struct {
	title, pod, store string
	client            *http.Client
	tmpl              *template.Template
}

func (w *web) entries(ctx context.Context) ([]entry, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.store+"/entries", nil)
	if err != nil {
		return nil, err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the store: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the store: it answered %s", res.Status)
	}
	var out []entry
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("read the store's answer: %w", err)
	}
	return out, nil
}

func (w *web) show(rw http.ResponseWriter, r *http.Request) {
	entries, err := w.entries(r.Context())
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	data := struct {
		Title, Pod string
		Entries    []entry
	}{w.title, w.pod, entries}
	if err := w.tmpl.Execute(rw, data); err != nil {
		slog.Warn("write the page", "error", err)
	}
}

func (w *web) sign(rw http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(entry{Name: r.FormValue("name"), Text: r.FormValue("text")})
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, w.store+"/entries", bytes.NewReader(body))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	res, err := w.client.Do(req)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		http.Error(rw, "the store refused the entry: "+res.Status, http.StatusBadRequest)
		return
	}
	http.Redirect(rw, r, "/", http.StatusSeeOther)
}

func (w *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "ok") })
	mux.HandleFunc("GET /{$}", w.show)
	mux.HandleFunc("POST /{$}", w.sign)
	return mux
}

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	flag.Parse()
	w := &web{
		title:  os.Getenv("TITLE"),
		pod:    os.Getenv("POD_NAME"),
		store:  os.Getenv("STORE_URL"),
		client: &http.Client{Timeout: 5 * time.Second},
		tmpl:   template.Must(template.New("page").Parse(page)),
	}
	if err := run(*addr, w); err != nil {
		slog.Error("web stopped", "error", err)
		os.Exit(1)
	}
}

func run(addr string, w *web) error {
	if w.store == "" {
		return errors.New("$STORE_URL is not set: give the store's address, such as http://store:6380")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	srv := &http.Server{Addr: addr, Handler: w.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	slog.Info("web serves", "addr", addr, "store", w.store)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(grace)
}
