package gitdoor

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reconcile/authz"
	"reconcile/gitops"
)

// fakeDoor answers with what it was given, so that the test sees what came through.
type fakeDoor struct{ fail error }

func (f fakeDoor) AdvertiseRefs(_ context.Context, service string, w io.Writer) error {
	io.WriteString(w, "refs of "+service)
	return f.fail
}

func (f fakeDoor) ReceivePack(_ context.Context, user string, r io.Reader, w io.Writer) error {
	b, _ := io.ReadAll(r)
	io.WriteString(w, user+" pushed "+string(b))
	return f.fail
}

func (f fakeDoor) UploadPack(_ context.Context, r io.Reader, w io.Writer) error {
	b, _ := io.ReadAll(r)
	io.WriteString(w, "fetched "+string(b))
	return f.fail
}

func (f fakeDoor) Plan(_ context.Context, user string, req gitops.PlanRequest) (gitops.PlanResponse, error) {
	return gitops.PlanResponse{Text: user + " plans " + req.Files[0].Path}, f.fail
}

func (f fakeDoor) Diff(_ context.Context, user string, _ gitops.PlanRequest) (gitops.PlanResponse, error) {
	return gitops.PlanResponse{Diff: user + " differs"}, f.fail
}

func (f fakeDoor) Apply(_ context.Context, user string, _ gitops.PlanRequest) (gitops.PlanResponse, error) {
	return gitops.PlanResponse{Commit: user}, f.fail
}

func zipped(s string) io.Reader {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return &b
}

func TestDoor(t *testing.T) {
	admin := authz.User{Name: "admin", Groups: []string{authz.GroupMasters}}
	node := authz.User{Name: "system:node:n1", Groups: []string{authz.GroupNodes}}
	plan := `{"files":[{"path":"web.yaml","data":""}]}`
	for _, tc := range []struct {
		name, method, path string
		user               authz.User
		body               io.Reader
		gzip               bool
		fail               error
		code               int
		contentType, want  string
	}{
		{name: "refs", method: "GET", path: Repository + "/info/refs?service=git-upload-pack", user: admin, code: 200, contentType: "application/x-git-upload-pack-advertisement", want: "refs of git-upload-pack"},
		{name: "dumb protocol", method: "GET", path: Repository + "/info/refs", user: admin, code: 403, want: "smart protocol"},
		{name: "push", method: "POST", path: Repository + "/git-receive-pack", user: admin, body: strings.NewReader("pack"), code: 200, contentType: "application/x-git-receive-pack-result", want: "admin pushed pack"},
		{name: "push gzipped", method: "POST", path: Repository + "/git-receive-pack", user: admin, body: zipped("pack"), gzip: true, code: 200, want: "admin pushed pack"},
		{name: "not gzip", method: "POST", path: Repository + "/git-upload-pack", user: admin, body: strings.NewReader("want"), gzip: true, code: 400, want: "not"},
		{name: "fetch", method: "POST", path: Repository + "/git-upload-pack", user: admin, body: strings.NewReader("want"), code: 200, contentType: "application/x-git-upload-pack-result", want: "fetched want"},
		{name: "cut off", method: "POST", path: Repository + "/git-upload-pack", user: admin, body: strings.NewReader("want"), fail: errors.New("gone"), code: 200, want: "fetched want"},
		{name: "anonymous", method: "GET", path: Repository + "/info/refs?service=git-upload-pack", user: authz.AnonymousUser(), code: 403, want: "reconcile remote add"},
		{name: "a node", method: "POST", path: Repository + "/git-receive-pack", user: node, body: strings.NewReader("pack"), code: 403, want: `user "system:node:n1" may not`},
		{name: "other repository", method: "GET", path: "/git/other.git/info/refs?service=git-upload-pack", user: admin, code: 404},
		{name: "plan", method: "POST", path: "/reconcile/v1/plan", user: admin, body: strings.NewReader(plan), code: 200, contentType: "application/json", want: "admin plans web.yaml"},
		{name: "diff", method: "POST", path: "/reconcile/v1/diff", user: admin, body: strings.NewReader(plan), code: 200, want: "admin differs"},
		{name: "apply", method: "POST", path: "/reconcile/v1/apply", user: admin, body: strings.NewReader(plan), code: 200, want: `"commit":"admin"`},
		{name: "plan by anonymous", method: "POST", path: "/reconcile/v1/plan", user: authz.AnonymousUser(), body: strings.NewReader(plan), code: 403},
		{name: "plan of no JSON", method: "POST", path: "/reconcile/v1/plan", user: admin, body: strings.NewReader("web.yaml"), code: 400, want: "not a request"},
		{name: "plan fails", method: "POST", path: "/reconcile/v1/plan", user: admin, body: strings.NewReader(plan), fail: errors.New("no leader"), code: 500, want: "plan: no leader"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := fakeDoor{fail: tc.fail}
			log := slog.New(slog.DiscardHandler)
			mux := http.NewServeMux()
			mux.Handle("/git/", Git(d, log))
			mux.Handle("/reconcile/v1/", Reconcile(d, log))
			r := httptest.NewRequest(tc.method, tc.path, tc.body)
			r = r.WithContext(authz.WithUser(r.Context(), tc.user))
			if tc.gzip {
				r.Header.Set("Content-Encoding", "gzip")
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != tc.code {
				t.Errorf("answered %d, want %d: %s", w.Code, tc.code, w.Body)
			}
			if tc.contentType != "" && w.Header().Get("Content-Type") != tc.contentType {
				t.Errorf("Content-Type is %q, want %q", w.Header().Get("Content-Type"), tc.contentType)
			}
			if !strings.Contains(w.Body.String(), tc.want) {
				t.Errorf("answered %q, want %q in it", w.Body, tc.want)
			}
		})
	}
}
