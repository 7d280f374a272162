package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// Import reads an OCI or docker archive (a tar file, or a folder in the OCI image layout) and stores each named image in it.
// rename, if not empty, names the archive's only image. Nothing is named before it is whole. It blocks on disk.
func (s *Store) Import(ctx context.Context, path, rename string) ([]Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	var found []named
	switch {
	case st.IsDir():
		found, err = fromLayout(path)
	default:
		var cleanup func()
		found, cleanup, err = s.fromArchive(path)
		if cleanup != nil {
			defer cleanup()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("import image from %s: %w", path, err)
	}
	if rename != "" {
		if len(found) != 1 {
			return nil, fmt.Errorf("import image from %s: it holds %d images, and a name can be given to one only", path, len(found))
		}
		found[0].name = rename
	}
	var out []Image
	for _, f := range found {
		if f.name == "" {
			return out, fmt.Errorf("import image from %s: an image in it has no name; give one with --tag", path)
		}
		img, err := s.Put(ctx, f.name, f.image)
		if err != nil {
			return out, fmt.Errorf("import image %s from %s: %w", f.name, path, err)
		}
		out = append(out, img)
	}
	return out, nil
}

type named struct {
	name  string
	image v1.Image
}

// fromArchive tells docker and OCI archives apart by the name of their index.
func (s *Store) fromArchive(path string) ([]named, func(), error) {
	kind, err := archiveKind(path)
	if err != nil {
		return nil, nil, err
	}
	if kind == "oci" {
		dir, err := os.MkdirTemp(filepath.Join(s.cfg.Root, "tmp"), "oci-")
		if err != nil {
			return nil, nil, err
		}
		cleanup := func() { _ = os.RemoveAll(dir) }
		if err := untarFlat(path, dir); err != nil {
			return nil, cleanup, err
		}
		found, err := fromLayout(dir)
		return found, cleanup, err
	}
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	m, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, nil, err
	}
	var out []named
	for _, d := range m {
		if len(d.RepoTags) == 0 {
			img, err := tarball.Image(open, nil)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, named{"", img})
		}
		for _, t := range d.RepoTags {
			tag, err := name.NewTag(t, name.WithDefaultRegistry("docker.io"))
			if err != nil {
				return nil, nil, err
			}
			plain, err := name.NewTag(t)
			if err != nil {
				return nil, nil, err
			}
			img, err := tarball.Image(open, &plain)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, named{tag.Name(), img})
		}
	}
	return out, nil, nil
}

func archiveKind(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	kind := ""
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read it as a tar archive: %w", err)
		}
		switch strings.TrimPrefix(h.Name, "./") {
		case "manifest.json":
			return "docker", nil
		case "index.json":
			kind = "oci"
		}
	}
	if kind == "" {
		return "", errors.New("it is neither a docker archive (no manifest.json) nor an OCI archive (no index.json)")
	}
	return kind, nil
}

// untarFlat unpacks the plain files of an OCI archive, whose names are fixed by the layout, and nothing else.
func untarFlat(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		n := filepath.Clean(h.Name)
		if err := root.MkdirAll(filepath.Dir(n), 0o700); err != nil {
			return err
		}
		w, err := root.Create(n)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, tr)
		if err = errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
}

// fromLayout reads the images of an OCI image layout that fit this machine.
func fromLayout(dir string) ([]named, error) {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	return fromIndex(idx, "")
}

func fromIndex(idx v1.ImageIndex, parent string) ([]named, error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []named
	for _, d := range m.Manifests {
		n := nameOf(d, parent)
		switch {
		case d.MediaType.IsIndex():
			sub, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := fromIndex(sub, n)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case d.MediaType.IsImage() && fits(d.Platform):
			img, err := idx.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			out = append(out, named{n, img})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no image for %s/%s in it", goos, goarch)
	}
	return out, nil
}

func nameOf(d v1.Descriptor, parent string) string {
	for _, k := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if n := d.Annotations[k]; n != "" {
			return n
		}
	}
	return parent
}

func fits(p *v1.Platform) bool {
	return p == nil || p.OS == "" || (p.OS == goos && p.Architecture == goarch)
}

// Put stores an image under a name, replacing what had it. It blocks on disk; the reader of each layer is read to its end, so that
// the digest is checked.
func (s *Store) Put(ctx context.Context, ref string, img v1.Image) (Image, error) {
	full, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	unlock, err := s.lock()
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	out, err := s.putBlobs(ctx, img)
	if err != nil {
		return Image{}, err
	}
	out.Name = full
	refs, err := s.read()
	if err != nil {
		return Image{}, err
	}
	refs[full] = out
	return out, s.write(refs)
}

func (s *Store) putBlobs(ctx context.Context, img v1.Image) (Image, error) {
	cf, err := img.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	if cf.OS != "" && cf.OS != goos || cf.Architecture != "" && cf.Architecture != goarch {
		return Image{}, fmt.Errorf("the image is for %s/%s, this machine is %s/%s", cf.OS, cf.Architecture, goos, goarch)
	}
	out := Image{Created: cf.Created.Time, Config: cf.Config}
	layers, err := img.Layers()
	if err != nil {
		return Image{}, fmt.Errorf("read the image's layers: %w", err)
	}
	chain := ""
	for i, l := range layers {
		diff, err := l.DiffID()
		if err != nil {
			return Image{}, fmt.Errorf("layer %d: %w", i, err)
		}
		chain = chainID(chain, diff.String())
		n, err := s.putLayer(ctx, l, chain)
		if err != nil {
			return Image{}, fmt.Errorf("layer %d (%s): %w", i, diff, err)
		}
		out.Size += n
		out.Layers = append(out.Layers, chain)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return Image{}, err
	}
	if out.ID, err = s.putBlob(raw); err != nil {
		return Image{}, err
	}
	if raw, err = img.RawManifest(); err != nil {
		return Image{}, err
	}
	out.Digest, err = s.putBlob(raw)
	return out, err
}

// chainID is the OCI image specification's: the digest of the parent's chain ID, a space, and the layer's diff ID.
func chainID(parent, diff string) string {
	if parent == "" {
		return diff
	}
	sum := sha256.Sum256([]byte(parent + " " + diff))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *Store) putBlob(b []byte) (string, error) {
	sum := sha256.Sum256(b)
	h := hex.EncodeToString(sum[:])
	return "sha256:" + h, writeSynced(filepath.Join(s.cfg.Root, "blobs/sha256", h), b)
}

// putLayer stores a layer's compressed bytes and its unpacked folder, and returns its compressed size.
func (s *Store) putLayer(ctx context.Context, l v1.Layer, chain string) (int64, error) {
	d, err := l.Digest()
	if err != nil {
		return 0, err
	}
	blob := filepath.Join(s.cfg.Root, "blobs/sha256", d.Hex)
	if _, err := os.Stat(blob); err != nil {
		r, err := l.Compressed()
		if err != nil {
			return 0, err
		}
		if err := s.copyBlob(blob, d.Hex, r); err != nil {
			return 0, err
		}
	}
	size, err := l.Size()
	if err != nil {
		return 0, err
	}
	return size, s.unpack(ctx, l, chain)
}

func (s *Store) copyBlob(path, want string, r io.ReadCloser) error {
	defer r.Close()
	f, err := os.CreateTemp(filepath.Join(s.cfg.Root, "tmp"), "blob-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	h := sha256.New()
	if _, err = io.Copy(io.MultiWriter(f, h), r); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("its bytes have digest sha256:%s, the manifest says sha256:%s", got, want)
	}
	return os.Rename(f.Name(), path)
}

// unpack makes layers/CHAINID/fs and the short link to it.
func (s *Store) unpack(ctx context.Context, l v1.Layer, chain string) error {
	h := strings.TrimPrefix(chain, "sha256:")
	final := filepath.Join(s.cfg.Root, "layers", h)
	if _, err := os.Stat(filepath.Join(final, "fs")); err != nil {
		tmp, err := os.MkdirTemp(filepath.Join(s.cfg.Root, "tmp"), "layer-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		if err := unpackInto(ctx, l, filepath.Join(tmp, "fs")); err != nil {
			return err
		}
		if err := os.Chmod(tmp, 0o711); err != nil {
			return err
		}
		// The name says that the content is whole, also after a power cut.
		if err := flush(tmp); err != nil {
			return err
		}
		if err := os.Rename(tmp, final); err != nil {
			return err
		}
	}
	link := filepath.Join(s.cfg.Root, "l", shortName(chain))
	if err := os.Symlink(filepath.Join("../layers", h, "fs"), link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// flush writes everything of a folder's file system to the disk: one call, where syncing each file of a layer would be thousands.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write the layer to the disk: %w", err)
	}
	return nil
}

func unpackInto(ctx context.Context, l v1.Layer, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := archive.Apply(ctx, dir, r, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout)); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	// What follows the archive's end must be read too: the digest is checked at the end of the stream.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// readAll is for small in-memory layers.
func readAll(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}
