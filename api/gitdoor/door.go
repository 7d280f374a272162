package gitdoor

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"reconcile/authz"
	"reconcile/gitops"
)

// Door is what stands behind this package. Errors of the three protocol functions mean that the conversation was cut off; what a
// user is to read has been written into it by then, if it had begun.
type Door interface {
	AdvertiseRefs(ctx context.Context, service string, w io.Writer) error
	ReceivePack(ctx context.Context, user string, r io.Reader, w io.Writer) error
	UploadPack(ctx context.Context, r io.Reader, w io.Writer) error
	Plan(ctx context.Context, user string, req gitops.PlanRequest) (gitops.PlanResponse, error)
	Diff(ctx context.Context, user string, req gitops.PlanRequest) (gitops.PlanResponse, error)
	Apply(ctx context.Context, user string, req gitops.PlanRequest) (gitops.PlanResponse, error)
}

// Repository is the path under which the cluster's repository is served.
const Repository = "/git/cluster.git"

// maxRequest bounds the JSON body of a folder that is sent to be planned or applied, in bytes.
const maxRequest = 128 << 20

// Git serves Repository. log must be set.
func Git(d Door, log *slog.Logger) http.Handler {
	h := &handler{door: d, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Repository+"/info/refs", h.refs)
	mux.HandleFunc("POST "+Repository+"/git-receive-pack", h.receive)
	mux.HandleFunc("POST "+Repository+"/git-upload-pack", h.upload)
	return guard(mux)
}

// Reconcile serves POST /reconcile/v1/plan, /diff and /apply.
func Reconcile(d Door, log *slog.Logger) http.Handler {
	h := &handler{door: d, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reconcile/v1/plan", h.folder(d.Plan))
	mux.HandleFunc("POST /reconcile/v1/diff", h.folder(d.Diff))
	mux.HandleFunc("POST /reconcile/v1/apply", h.folder(d.Apply))
	return guard(mux)
}

// guard lets administrators in. Who else may push, and where, comes with rights.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		u := authz.UserFrom(r.Context())
		switch {
		case u.In(authz.GroupMasters):
			next.ServeHTTP(w, r)
		case u.Name == authz.Anonymous:
			http.Error(w, "no client certificate was presented; run `reconcile remote add NAME` in the work tree, which sets http.sslCert and http.sslKey", http.StatusForbidden)
		default:
			http.Error(w, fmt.Sprintf("user %q may not use the cluster's repository; use the administrator's certificate", u.Name), http.StatusForbidden)
		}
	})
}

type handler struct {
	door Door
	log  *slog.Logger
}

func (h *handler) refs(w http.ResponseWriter, r *http.Request) {
	service := r.URL.Query().Get("service")
	if !slices.Contains([]string{"git-upload-pack", "git-receive-pack"}, service) {
		http.Error(w, "this server speaks git's smart protocol only: use git 1.6.6 or later", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	h.done(r, h.door.AdvertiseRefs(r.Context(), service, flusher{w}))
}

func (h *handler) receive(w http.ResponseWriter, r *http.Request) {
	body, ok := unpacked(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	h.done(r, h.door.ReceivePack(r.Context(), authz.UserFrom(r.Context()).Name, body, flusher{w}))
}

func (h *handler) upload(w http.ResponseWriter, r *http.Request) {
	body, ok := unpacked(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	h.done(r, h.door.UploadPack(r.Context(), body, flusher{w}))
}

// unpacked is the request's body without its compression.
func unpacked(w http.ResponseWriter, r *http.Request) (io.Reader, bool) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return r.Body, true
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, "the body says that it is gzip and is not: "+err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return z, true
}

// done logs a conversation that was cut off. Its status code is on the wire already.
func (h *handler) done(r *http.Request, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	h.log.Warn("git conversation ended early", "path", r.URL.Path, "user", authz.UserFrom(r.Context()).Name, "error", err)
}

// folder serves one of the JSON verbs.
func (h *handler) folder(do func(context.Context, string, gitops.PlanRequest) (gitops.PlanResponse, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := unpacked(w, r)
		if !ok {
			return
		}
		var req gitops.PlanRequest
		if err := json.NewDecoder(io.LimitReader(body, maxRequest)).Decode(&req); err != nil {
			http.Error(w, "the body is not a request of this version: "+err.Error(), http.StatusBadRequest)
			return
		}
		res, err := do(r.Context(), authz.UserFrom(r.Context()).Name, req)
		if err != nil {
			verb := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			h.log.Warn("request failed", "verb", verb, "user", authz.UserFrom(r.Context()).Name, "error", err)
			http.Error(w, verb+": "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(res); err != nil {
			h.done(r, err)
		}
	}
}

// flusher sends each message at once, so that the user sees words as they come.
type flusher struct{ http.ResponseWriter }

// Flush implements the optional method that Door's functions look for.
func (f flusher) Flush() error { return http.NewResponseController(f.ResponseWriter).Flush() }
