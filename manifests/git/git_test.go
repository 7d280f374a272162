package git

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"reconcile/internal/needs"
)

// memoryStore is a Store in memory.
type memoryStore struct {
	mu    sync.Mutex
	keys  map[string][]byte
	blobs map[string][]byte
}

func newStore() *memoryStore {
	return &memoryStore{keys: map[string][]byte{}, blobs: map[string][]byte{}}
}

func (s *memoryStore) View() View { return s }

func (s *memoryStore) Get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.keys[key]
	return v, ok
}

func (s *memoryStore) Range(prefix string) iter.Seq2[string, []byte] {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[string][]byte{}
	var names []string
	for k, v := range s.keys {
		if strings.HasPrefix(k, prefix) {
			rows[k] = v
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return func(yield func(string, []byte) bool) {
		for _, k := range names {
			if !yield(k, rows[k]) {
				return
			}
		}
	}
}

func (s *memoryStore) Blob(_ context.Context, digest string) ([]byte, error) {
	b, ok := s.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("no blob %s", digest)
	}
	return b, nil
}

// receiver accepts what passes its rule, as gitops would: ref and pack move together.
type receiver struct {
	store *memoryStore
	mu    sync.Mutex
	last  *Push
	rule  func(*Push, io.Writer) error
}

func (r *receiver) Receive(_ context.Context, p *Push, remote io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = p
	if r.rule != nil {
		if err := r.rule(p, remote); err != nil {
			return err
		}
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	for _, c := range p.Commands {
		old := string(r.store.keys[RefKey(c.Ref)])
		if strings.HasPrefix(c.Ref, PlanPrefix) {
			fmt.Fprintf(remote, "plan of %s\n", abbreviate(c.New))
			return nil
		}
		if have, _ := ParseHash(old); have != c.Old {
			return errors.New("stale at commit")
		}
	}
	for _, c := range p.Commands {
		if c.New.IsZero() {
			delete(r.store.keys, RefKey(c.Ref))
		} else {
			r.store.keys[RefKey(c.Ref)] = []byte(c.New.String())
		}
	}
	if p.Pack != nil {
		seq := uint64(1)
		for r.store.keys[PackKey(seq)] != nil {
			seq++
		}
		value := p.Pack
		if len(p.Pack) > 256<<10 {
			digest := fmt.Sprintf("blob-%d", seq)
			r.store.blobs[digest] = p.Pack
			value = []byte(digest)
		}
		r.store.keys[PackKey(seq)] = value
	}
	fmt.Fprintf(remote, "accepted %d command(s)\n", len(p.Commands))
	return nil
}

// world is a server with its store, and a folder for clones.
type world struct {
	t     *testing.T
	store *memoryStore
	recv  *receiver
	repo  *Repository
	url   string
	dir   string
}

func newWorld(t *testing.T, limits Limits) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		needs.Missing(t, "needs the git client: apt-get install git")
	}
	store := newStore()
	repo, err := Open(Config{Store: store, Limits: limits, Options: func(o string) error {
		if o == "plan" || strings.HasPrefix(o, "allow-delete=") {
			return nil
		}
		return fmt.Errorf("push option %q is not known", o)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, recv: &receiver{store: store}, repo: repo, dir: t.TempDir()}
	srv := httptest.NewServer(w.handler())
	t.Cleanup(srv.Close)
	w.url = srv.URL + "/git/cluster.git"
	return w
}

func (w *world) handler() http.Handler {
	mux := http.NewServeMux()
	body := func(r *http.Request) io.Reader {
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				w.t.Error(err)
			}
			return z
		}
		return r.Body
	}
	mux.HandleFunc("GET /git/cluster.git/info/refs", func(rw http.ResponseWriter, r *http.Request) {
		service := r.URL.Query().Get("service")
		rw.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
		if err := w.repo.AdvertiseRefs(r.Context(), service, rw); err != nil {
			w.t.Error(err)
		}
	})
	mux.HandleFunc("POST /git/cluster.git/git-receive-pack", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-git-receive-pack-result")
		if err := w.repo.ReceivePack(r.Context(), body(r), rw, w.recv); err != nil {
			w.t.Log("receive-pack:", err)
		}
	})
	mux.HandleFunc("POST /git/cluster.git/git-upload-pack", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		if err := w.repo.UploadPack(r.Context(), body(r), rw); err != nil {
			w.t.Log("upload-pack:", err)
		}
	})
	return mux
}

// git runs git in a folder of the world; it returns what it printed and whether it succeeded.
func (w *world) try(dir string, args ...string) (string, bool) {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(w.dir, dir)
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_CONFIG_NOSYSTEM=1", "HOME="+w.dir, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	out, ok := w.try(dir, args...)
	if !ok {
		w.t.Fatalf("git %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// refused runs git and wants it to fail with the given words.
func (w *world) refused(dir string, want string, args ...string) {
	w.t.Helper()
	out, ok := w.try(dir, args...)
	if ok || !strings.Contains(out, want) {
		w.t.Fatalf("git %s: success %v, want a failure with %q:\n%s", strings.Join(args, " "), ok, want, out)
	}
}

func (w *world) write(dir, name, content string) {
	w.t.Helper()
	p := filepath.Join(w.dir, dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// commit writes a file and commits everything.
func (w *world) commit(dir, name, content string) {
	w.t.Helper()
	w.write(dir, name, content)
	w.git(dir, "add", "-A")
	w.git(dir, "commit", "-qm", "change "+name)
}

// work makes a work tree with one commit and the remote.
func (w *world) work(dir string) {
	w.t.Helper()
	w.git("", "init", "-q", "-b", "main", dir)
	w.git(dir, "remote", "add", "cluster", w.url)
	w.commit(dir, "a/one.yaml", strings.Repeat("line of text\n", 200))
}

func (w *world) ref(name string) string {
	v, _ := w.store.Get(RefKey(name))
	return string(v)
}

func TestPushFirstAndThin(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	out := w.git("x", "push", "cluster", "main")
	if !strings.Contains(out, "remote: accepted 1 command(s)") {
		t.Errorf("no remote line in %s", out)
	}
	w.commit("x", "a/one.yaml", strings.Repeat("line of text\n", 200)+"and one more\n")
	w.git("x", "push", "cluster", "main")
	if head := strings.TrimSpace(w.git("x", "rev-parse", "HEAD")); w.ref(MainRef) != head {
		t.Errorf("main is %s, want %s", w.ref(MainRef), head)
	}
	if out := w.git("x", "push", "cluster", "main"); !strings.Contains(out, "Everything up-to-date") {
		t.Errorf("second push of the same: %s", out)
	}
	// A server that starts afresh replays the packs, the thin one included.
	again, err := Open(Config{Store: w.store})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := again.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := again.Commit(snap.Refs[MainRef])
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(again, c.Tree, nil)
	if err != nil || len(files) != 1 || files[0].Path != "a/one.yaml" {
		t.Errorf("files %v, err %v", files, err)
	}
	if b, ok := again.Blob(files[0].Hash); !ok || !strings.HasSuffix(string(b), "and one more\n") {
		t.Error("the delta's content is wrong")
	}
}

func TestPushLargeIsProbedAndChunked(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	noise := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(noise)
	w.commit("x", "noise.bin", string(noise))
	w.git("x", "push", "cluster", "main")
	w.git("", "clone", "-q", w.url, "y")
	got, err := os.ReadFile(filepath.Join(w.dir, "y/noise.bin"))
	if err != nil || !bytes.Equal(got, noise) {
		t.Errorf("the clone's file differs (err %v)", err)
	}
	w.git("y", "fsck", "--full", "--strict")
}

func TestPushOptions(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.refused("x", `push option "frobnicate" is not known`, "push", "-o", "frobnicate", "cluster", "main")
	w.git("x", "push", "-o", "allow-delete=7", "cluster", "main")
	if got := w.recv.last.Options; !slices.Equal(got, []string{"allow-delete=7"}) {
		t.Errorf("options %q", got)
	}
}

func TestPushRefusals(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.git("x", "push", "cluster", "main")
	before := w.ref(MainRef)
	w.recv.rule = func(_ *Push, remote io.Writer) error {
		fmt.Fprintln(remote, "web.yaml:3:5: unknown field \"x\"")
		return errors.New("1 mistake")
	}
	w.commit("x", "b.yaml", "b")
	out, ok := w.try("x", "push", "cluster", "main")
	if ok || !strings.Contains(out, "remote: web.yaml:3:5: unknown field") || !strings.Contains(out, "! [remote rejected] main -> main (1 mistake)") {
		t.Errorf("refusal: %s", out)
	}
	w.recv.rule = nil
	w.git("x", "push", "cluster", "main")
	w.git("x", "reset", "-q", "--hard", before)
	w.commit("x", "c.yaml", "c")
	w.refused("x", "non-fast-forward", "push", "--force", "cluster", "main")
	w.refused("x", "main cannot be deleted", "push", "cluster", ":main")
	w.refused("x", "only refs/heads", "push", "cluster", "HEAD:refs/notes/x")
	w.git("x", "push", "cluster", "HEAD:refs/heads/other")
	w.git("x", "push", "cluster", ":other")
	if w.ref("refs/heads/other") != "" {
		t.Error("the branch is still there")
	}
	w.git("x", "tag", "-am", "one", "v1")
	w.git("x", "push", "cluster", "v1")
	w.git("", "clone", "-q", w.url, "tagged")
	if !strings.Contains(w.git("tagged", "tag"), "v1") {
		t.Error("the tag was not cloned")
	}
}

func TestPushPlanRefIsNeverStored(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	if out := w.git("x", "push", "cluster", "HEAD:refs/plan/main"); !strings.Contains(out, "remote: plan of ") {
		t.Errorf("no plan: %s", out)
	}
	w.commit("x", "b.yaml", "b")
	w.git("x", "push", "cluster", "HEAD:refs/plan/main")
	if len(w.store.keys) != 0 {
		t.Errorf("stored %v", w.store.keys)
	}
	w.git("x", "push", "cluster", "main")
}

func TestPushStaleAndConcurrent(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.git("x", "push", "cluster", "main")
	const n = 4
	for i := range n {
		dir := fmt.Sprintf("c%d", i)
		w.git("", "clone", "-q", w.url, dir)
		w.commit(dir, fmt.Sprintf("f%d", i), dir)
	}
	var wg sync.WaitGroup
	var won [n]bool
	for i := range n {
		wg.Go(func() { _, won[i] = w.try(fmt.Sprintf("c%d", i), "push", "origin", "main") })
	}
	wg.Wait()
	wins := 0
	for i := range n {
		if won[i] {
			wins++
			if head := strings.TrimSpace(w.git(fmt.Sprintf("c%d", i), "rev-parse", "HEAD")); w.ref(MainRef) != head {
				t.Error("main is not at the winner")
			}
		}
	}
	if wins != 1 {
		t.Errorf("%d pushes won, want 1", wins)
	}
}

func TestPushAtomic(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.git("x", "push", "cluster", "main")
	w.git("x", "branch", "good")
	w.refused("x", "only refs/heads", "push", "--atomic", "cluster", "good", "HEAD:refs/notes/x")
	if w.ref("refs/heads/good") != "" {
		t.Error("half of an atomic push was stored")
	}
	w.git("x", "branch", "other")
	w.git("x", "push", "--atomic", "cluster", "good", "other")
}

func TestFetch(t *testing.T) {
	w := newWorld(t, Limits{})
	w.git("", "clone", "-q", w.url, "empty")
	w.work("x")
	for i := range 30 {
		w.commit("x", fmt.Sprintf("d%d/f.yaml", i%5), fmt.Sprint(i))
	}
	w.git("x", "push", "cluster", "main")
	w.git("", "clone", "-q", w.url, "full")

	w.git("", "clone", "-q", "--depth", "1", w.url, "shallow")
	if n := strings.TrimSpace(w.git("shallow", "rev-list", "--count", "HEAD")); n != "1" {
		t.Errorf("the shallow clone has %s commits", n)
	}
	w.commit("x", "new.yaml", "new")
	w.git("x", "push", "cluster", "main")
	for _, dir := range []string{"full", "shallow"} {
		w.git(dir, "pull", "-q", "--ff-only")
		if _, err := os.Stat(filepath.Join(w.dir, dir, "new.yaml")); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		w.git(dir, "fsck", "--full")
	}
	// Local commits that the server does not know are haves in vain.
	w.commit("full", "local.yaml", "local")
	w.commit("x", "newer.yaml", "newer")
	w.git("x", "push", "cluster", "main")
	w.git("full", "fetch", "-q")
	w.git("full", "rebase", "-q", "origin/main")
	w.git("full", "push", "-q", "origin", "main")
	w.git("shallow", "fetch", "-q", "--depth", "3")
	w.git("shallow", "reset", "-q", "--hard", "origin/main")
	if n := strings.TrimSpace(w.git("shallow", "rev-list", "--count", "HEAD")); n != "3" {
		t.Errorf("after fetch --depth 3 there are %s commits", n)
	}
	w.git("shallow", "fetch", "-q", "--unshallow")
	if n := strings.TrimSpace(w.git("shallow", "rev-list", "--count", "HEAD")); n != "34" {
		t.Errorf("after --unshallow there are %s commits", n)
	}
	w.git("shallow", "fsck", "--full")
}

func TestPushFromShallowClone(t *testing.T) {
	w := newWorld(t, Limits{})
	w.work("x")
	w.commit("x", "b.yaml", "b")
	w.git("x", "checkout", "-qb", "side", "HEAD~1")
	w.commit("x", "side.yaml", "side")
	w.git("x", "checkout", "-q", "main")
	w.git("x", "merge", "-q", "--no-edit", "side")
	w.commit("x", "c.yaml", "c")
	w.git("x", "push", "cluster", "main")
	w.git("", "clone", "-q", "--depth", "2", w.url, "s")
	w.commit("s", "d.yaml", "d")
	w.git("s", "push", "origin", "main")
	if head := strings.TrimSpace(w.git("s", "rev-parse", "HEAD")); w.ref(MainRef) != head {
		t.Error("main is not at the shallow clone's commit")
	}
}

func TestPushLimits(t *testing.T) {
	w := newWorld(t, Limits{PackBytes: 1 << 20, ObjectBytes: 100 << 10, Depth: 5, PathBytes: 100, Files: 20})
	w.work("x")
	w.git("x", "push", "cluster", "main")
	for _, tc := range []struct{ name, want string }{
		{"noise", "is larger than the limit of 1 MiB"},
		{"bomb", "larger than the limit of 102400"},
		{"deep", "nested deeper than 5"},
		{"long", "longer than 100 bytes"},
		{"many", "more than the limit of 20"},
		{"link", "is a symbolic link"},
		{"module", "is a submodule"},
		{"dotgit", "git keeps its own data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.git("x", "checkout", "-qB", tc.name, "main")
			switch tc.name {
			case "noise":
				noise := make([]byte, 2<<20)
				rand.New(rand.NewSource(1)).Read(noise)
				w.commit("x", "noise", string(noise))
			case "bomb":
				w.commit("x", "zeros", strings.Repeat("\x00", 50<<20))
			case "deep":
				w.commit("x", "a/b/c/d/e/f/g/h", "x")
			case "long":
				w.commit("x", strings.Repeat("l", 101), "x")
			case "many":
				for i := range 21 {
					w.write("x", fmt.Sprintf("many/%d", i), "x")
				}
				w.commit("x", "many/last", "x")
			case "link":
				if err := os.Symlink("/etc/passwd", filepath.Join(w.dir, "x/link")); err != nil {
					t.Fatal(err)
				}
				w.git("x", "add", "-A")
				w.git("x", "commit", "-qm", "link")
			case "module":
				head := strings.TrimSpace(w.git("x", "rev-parse", "HEAD"))
				w.git("x", "update-index", "--add", "--cacheinfo", "160000,"+head+",sub")
				w.git("x", "commit", "-qm", "module")
			case "dotgit":
				blob := strings.TrimSpace(w.git("x", "hash-object", "-w", "a/one.yaml"))
				tree := w.mktree("x", "100644 blob "+blob+"\t.GIT\n")
				commit := strings.TrimSpace(w.git("x", "commit-tree", "-p", "main", "-m", "x", tree))
				w.git("x", "update-ref", "refs/heads/dotgit", commit)
			}
			w.refused("x", tc.want, "push", "cluster", tc.name)
			w.git("x", "checkout", "-qf", "main")
			w.git("x", "clean", "-qfdx")
		})
	}
}

func (w *world) mktree(dir, input string) string {
	cmd := exec.Command("git", "mktree")
	cmd.Dir = filepath.Join(w.dir, dir)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git mktree: %s", out)
	}
	return strings.TrimSpace(string(out))
}
