package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"reconcile/internal/needs"
	"reconcile/node/image"
)

func open(t *testing.T, used map[string][]string) *image.Store {
	t.Helper()
	s, err := image.Open(image.Config{Root: t.TempDir(), InUse: func() (map[string][]string, error) { return used, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func layer(t *testing.T, headers ...tar.Header) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		body := h.Uname // the text travels in a field that is not needed here
		h.Uname = ""
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func twoLayers(t *testing.T) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layer(t, tar.Header{Name: "a", Mode: 0o644, Uname: "one"}, tar.Header{Name: "gone", Mode: 0o644, Uname: "x"}),
		layer(t, tar.Header{Name: "b", Mode: 0o755, Uname: "two"}, tar.Header{Name: ".wh.gone", Mode: 0o644}))
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/b"}, Env: []string{"X=1"}}); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestArchives(t *testing.T) {
	img := twoLayers(t)
	docker := filepath.Join(t.TempDir(), "docker.tar")
	tag, _ := name.NewTag("example.org/two:v1")
	if err := tarball.WriteToFile(docker, tag, img); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "oci")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "example.org/two:v1"})); err != nil {
		t.Fatal(err)
	}
	ociTar := filepath.Join(t.TempDir(), "oci.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", ociTar, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for kind, path := range map[string]string{"docker archive": docker, "OCI folder": dir, "OCI archive": ociTar} {
		t.Run(kind, func(t *testing.T) {
			if os.Geteuid() != 0 {
				needs.Missing(t, "needs root: whiteouts are device nodes")
			}
			s := open(t, nil)
			list, err := s.Import(context.Background(), path, "")
			if err != nil || len(list) != 1 || list[0].Name != "example.org/two:v1" {
				t.Fatalf("Import: %+v, %v", list, err)
			}
			got, err := s.Resolve("example.org/two:v1")
			if err != nil || got.Config.Entrypoint[0] != "/b" || len(got.Layers) != 2 {
				t.Fatalf("Resolve: %+v, %v", got, err)
			}
			base, names, err := s.Layers(got)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(base, names[1], "a")); err != nil || string(b) != "one" {
				t.Errorf("lower layer: %q, %v", b, err)
			}
			if st, err := os.Lstat(filepath.Join(base, names[0], "gone")); err != nil || st.Mode()&os.ModeCharDevice == 0 {
				t.Errorf("the whiteout is %v, %v", st, err)
			}
			if _, err := s.Import(context.Background(), path, "other:v2"); err != nil {
				t.Error(err)
			}
			if got, err := s.Resolve("other:v2"); err != nil || got.Name != "docker.io/library/other:v2" && got.Name != "index.docker.io/library/other:v2" {
				t.Errorf("renamed: %+v, %v", got.Name, err)
			}
		})
	}
}

func TestBuild(t *testing.T) {
	s := open(t, nil)
	bin := filepath.Join(t.TempDir(), "web")
	src := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", bin, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	a, err := s.Build(context.Background(), "web:v1", bin, image.BuildOptions{})
	if err != nil || a.Config.Entrypoint[0] != "/app" {
		t.Fatalf("%+v, %v", a, err)
	}
	b, err := s.Build(context.Background(), "web:v2", bin, image.BuildOptions{})
	if err != nil || a.ID != b.ID {
		t.Errorf("the same input gives %s and %s, %v", a.ID, b.ID, err)
	}
	if got, err := s.Resolve("web:v1"); err != nil || got.ID != a.ID {
		t.Errorf("Resolve(web:v1): %+v, %v", got, err)
	}
	if got, err := s.Resolve(a.ID); err != nil || got.ID != a.ID {
		t.Errorf("Resolve by ID: %v", err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "app"), []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Build(context.Background(), "folder", folder, image.BuildOptions{User: "7"}); err != nil || f.Config.Entrypoint[0] != "/app" || f.Config.User != "7" {
		t.Errorf("folder: %+v, %v", f, err)
	}
	if _, err := s.Build(context.Background(), "sh", "/bin/sh", image.BuildOptions{}); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("a dynamic binary: %v", err)
	}
	if _, err := s.Build(context.Background(), "txt", src, image.BuildOptions{}); err == nil || !strings.Contains(err.Error(), "neither a folder nor a Linux binary") {
		t.Errorf("a text file: %v", err)
	}
	if _, err := s.Build(context.Background(), "BAD NAME", bin, image.BuildOptions{}); err == nil {
		t.Error("a bad name is taken")
	}
}

func TestRemove(t *testing.T) {
	used := map[string][]string{}
	s := open(t, used)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	i, err := s.Build(context.Background(), "a", folder, image.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(context.Background(), "b", folder, image.BuildOptions{}); err != nil {
		t.Fatal(err)
	}
	used[i.ID] = []string{"container c"}
	if err := s.Remove(context.Background(), "a"); err != nil {
		t.Errorf("one of two names: %v", err)
	}
	if err := s.Remove(context.Background(), "b"); !errors.Is(err, image.ErrInUse) || !strings.Contains(err.Error(), "container c") {
		t.Errorf("the last name of a used image: %v", err)
	}
	delete(used, i.ID)
	if err := s.Remove(context.Background(), "b"); err != nil {
		t.Error(err)
	}
	if err := s.Remove(context.Background(), "b"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, _, err := s.Layers(i); err == nil {
		t.Error("the layer is left")
	}
}

// TestRemoveKeepsMountedLayers builds an image again under its name while a container of the first one runs: removing a third
// image must not take the layers that the container has mounted.
func TestRemoveKeepsMountedLayers(t *testing.T) {
	used := map[string][]string{}
	s := open(t, used)
	build := func(name, content string) image.Image {
		t.Helper()
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "f"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		i, err := s.Build(context.Background(), name, folder, image.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	first := build("a", "one")
	used[first.ID] = []string{"container c"}
	build("a", "two")
	build("b", "three")
	build("d", "four")
	if err := s.Remove(context.Background(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Layers(first); err != nil {
		t.Errorf("the container's layers are gone: %v", err)
	}
	delete(used, first.ID)
	if err := s.Remove(context.Background(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Layers(first); err == nil {
		t.Error("layers that nothing needs are left")
	}
}

// TestCollect removes an image with all its names, but none that a container uses; and layers go of which only ended containers had a use,
// also when another image without a name is in use.
func TestCollect(t *testing.T) {
	used, mounted := map[string][]string{}, map[string]bool{}
	s, err := image.Open(image.Config{Root: t.TempDir(), InUse: func() (map[string][]string, error) { return used, nil }, Mounted: func() (map[string]bool, error) { return mounted, nil }})
	if err != nil {
		t.Fatal(err)
	}
	build := func(name, content string) image.Image {
		t.Helper()
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "f"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		i, err := s.Build(t.Context(), name, folder, image.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	has := func(i image.Image) bool { _, _, err := s.Layers(i); return err == nil }
	runs := build("runs:1", "one")
	_, short, err := s.Layers(runs)
	if err != nil {
		t.Fatal(err)
	}
	used[runs.ID], mounted[short[0]] = []string{"container c"}, true
	next := build("runs:1", "two") // the first one loses its name
	other := build("other:1", "three")
	build("other:2", "three")
	record := image.Record{ID: other.ID, Names: []string{"docker.io/library/other:1", "index.docker.io/library/other:1"}}
	if err := s.Collect(t.Context(), record); err == nil || !has(other) {
		t.Errorf("an image with another name: %v", err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	records := image.Observe(nil, list, map[string]bool{}, time.Now())
	for _, r := range records {
		if r.ID != other.ID {
			continue
		}
		used[other.ID] = []string{"container d"}
		if err := s.Collect(t.Context(), r); !errors.Is(err, image.ErrInUse) || !has(other) {
			t.Errorf("an image in use: %v", err)
		}
		delete(used, other.ID)
		if err := s.Collect(t.Context(), r); err != nil || has(other) {
			t.Errorf("an image that nothing needs: %v, its layers are left: %v", err, has(other))
		}
	}
	if !has(runs) || !has(next) {
		t.Error("layers that are needed are gone")
	}
	clear(used)
	clear(mounted)
	if err := s.Sweep(t.Context()); err != nil || has(runs) || !has(next) {
		t.Errorf("sweep: %v, what nothing needs is left: %v, what is needed is there: %v", err, has(runs), has(next))
	}
}
