package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var (
	// ErrNotFound says that no image of that name or digest is in the store.
	ErrNotFound = errors.New("image is not on this node")
	// ErrInUse says that a container uses the image.
	ErrInUse = errors.New("image is in use")
)

// Config of a store.
type Config struct {
	// Root is the store's folder. Absolute.
	Root string
	// InUse returns the image IDs that containers use, with what uses each. nil is none.
	InUse func() (map[string][]string, error)
	// Mounted returns the short names of the layers that containers have mounted, also of images that have lost their names. With nil
	// no layer is removed while such an image is in use.
	Mounted func() (map[string]bool, error)
}

// Validate lists all faults.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Root) {
		return fmt.Errorf("image store config: Root %q: want an absolute path", c.Root)
	}
	return nil
}

// Store is the images of one node. Several processes may use one store: writers hold a lock on a file.
type Store struct{ cfg Config }

// Image is one image of the store.
type Image struct {
	// Name is the full name with its tag or digest, as containers and lists show it ("docker.io/library/web:1").
	Name string `json:"name"`
	// ID is the digest of the image's configuration ("sha256:…"), Digest that of its manifest.
	ID     string `json:"id"`
	Digest string `json:"digest"`
	// Size is the sum of the compressed layers in bytes.
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
	// Layers are the chain IDs of the layers, lowest first.
	Layers []string `json:"layers"`
	// Config says how a container of the image runs by default.
	Config v1.Config `json:"config"`
}

// Open makes the folders that are missing and returns the store.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, d := range []string{"blobs/sha256", "layers", "l", "tmp"} {
		if err := os.MkdirAll(filepath.Join(cfg.Root, d), 0o711); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	return &Store{cfg: cfg}, nil
}

// Normalize returns the full name of a reference as Kubernetes shows it: "web" becomes "docker.io/library/web:latest".
func Normalize(ref string) (string, error) {
	r, err := name.ParseReference(ref, name.WithDefaultRegistry("docker.io"))
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", ref, err)
	}
	return r.Name(), nil
}

// Resolve finds an image by name or by ID ("sha256:…"). The error is ErrNotFound when there is none.
func (s *Store) Resolve(ref string) (Image, error) {
	refs, err := s.read()
	if err != nil {
		return Image{}, err
	}
	if strings.HasPrefix(ref, "sha256:") {
		for _, img := range refs {
			if img.ID == ref || img.Digest == ref {
				return img, nil
			}
		}
		return Image{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}
	full, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	if img, ok := refs[full]; ok {
		return img, nil
	}
	if repo, digest, ok := strings.Cut(full, "@"); ok {
		for n, img := range refs {
			if img.Digest == digest && (strings.HasPrefix(n, repo+":") || strings.HasPrefix(n, repo+"@")) {
				return img, nil
			}
		}
	}
	return Image{}, fmt.Errorf("%s: %w", full, ErrNotFound)
}

// List returns all images by name.
func (s *Store) List() ([]Image, error) {
	refs, err := s.read()
	if err != nil {
		return nil, err
	}
	out := make([]Image, 0, len(refs))
	for _, img := range refs {
		out = append(out, img)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Layers returns where the image's layers lie: a folder, and in it the short names of the layers' folders, top first.
func (s *Store) Layers(img Image) (base string, names []string, err error) {
	base = filepath.Join(s.cfg.Root, "l")
	for i := len(img.Layers) - 1; i >= 0; i-- {
		short := shortName(img.Layers[i])
		if _, err := os.Stat(filepath.Join(base, short)); err != nil {
			return "", nil, fmt.Errorf("image %s: layer %s is damaged, import the image again: %w", img.Name, img.Layers[i], err)
		}
		names = append(names, short)
	}
	return base, names, nil
}

// Remove forgets a name, and removes the layers and blobs that no other image needs. It refuses with ErrInUse when a container
// uses the image and no other name of the same image is left.
func (s *Store) Remove(ctx context.Context, ref string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	img, err := s.Resolve(ref)
	if err != nil {
		return err
	}
	refs, err := s.read()
	if err != nil {
		return err
	}
	delete(refs, img.Name)
	if err := s.refuseUsed(img, refs); err != nil {
		return err
	}
	if err := s.write(refs); err != nil {
		return err
	}
	return s.sweep(ctx, refs)
}

func (s *Store) refuseUsed(img Image, rest map[string]Image) error {
	if hasID(rest, img.ID) {
		return nil
	}
	if s.cfg.InUse == nil {
		return nil
	}
	used, err := s.cfg.InUse()
	if err != nil {
		return fmt.Errorf("remove image %s: learn what uses it: %w", img.Name, err)
	}
	if by := used[img.ID]; len(by) > 0 {
		return fmt.Errorf("remove image %s: %w by %s", img.Name, ErrInUse, strings.Join(by, ", "))
	}
	return nil
}

// hasID tells whether one of refs names the image with that ID.
func hasID(refs map[string]Image, id string) bool {
	for _, img := range refs {
		if img.ID == id {
			return true
		}
	}
	return false
}

// sweep removes layers and blobs that none of refs needs. The caller holds the lock.
func (s *Store) sweep(ctx context.Context, refs map[string]Image) error {
	keepLayer, keepBlob, mounted := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, img := range refs {
		for _, l := range img.Layers {
			keepLayer[strings.TrimPrefix(l, "sha256:")] = true
		}
		for _, b := range s.blobsOf(img) {
			keepBlob[b] = true
		}
	}
	if s.cfg.InUse != nil {
		used, err := s.cfg.InUse()
		if err != nil {
			return fmt.Errorf("free what no image needs: learn what containers use: %w", err)
		}
		for id := range used {
			// It lost its name while containers run: its layers are mounted, and which ones they are only the containers know.
			if !hasID(refs, id) && s.cfg.Mounted == nil {
				return nil
			}
		}
	}
	if s.cfg.Mounted != nil {
		var err error
		if mounted, err = s.cfg.Mounted(); err != nil {
			return fmt.Errorf("free what no image needs: learn what containers have mounted: %w", err)
		}
	}
	var errs []error
	drop := func(dir string, keep map[string]bool) {
		entries, err := os.ReadDir(filepath.Join(s.cfg.Root, dir))
		errs = append(errs, err)
		for _, e := range entries {
			if !keep[e.Name()] && (dir != "layers" || !mounted[shortName(e.Name())]) && ctx.Err() == nil {
				errs = append(errs, os.RemoveAll(filepath.Join(s.cfg.Root, dir, e.Name())))
				if dir == "layers" {
					errs = append(errs, removeIfThere(filepath.Join(s.cfg.Root, "l", shortName(e.Name()))))
				}
			}
		}
	}
	drop("layers", keepLayer)
	drop("blobs/sha256", keepBlob)
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// blobsOf lists the hex names of an image's blobs: manifest, configuration and layers.
func (s *Store) blobsOf(img Image) []string {
	hex := func(d string) string { return strings.TrimPrefix(d, "sha256:") }
	out := []string{hex(img.Digest), hex(img.ID)}
	b, err := os.ReadFile(filepath.Join(s.cfg.Root, "blobs/sha256", hex(img.Digest)))
	if err != nil {
		return out
	}
	var m v1.Manifest
	if json.Unmarshal(b, &m) == nil {
		for _, l := range m.Layers {
			out = append(out, l.Digest.Hex)
		}
	}
	return out
}

func (s *Store) refsPath() string { return filepath.Join(s.cfg.Root, "refs.json") }

func (s *Store) read() (map[string]Image, error) {
	b, err := os.ReadFile(s.refsPath())
	if errors.Is(err, os.ErrNotExist) {
		return map[string]Image{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the image store's names: %w", err)
	}
	refs := map[string]Image{}
	if err := json.Unmarshal(b, &refs); err != nil {
		return nil, fmt.Errorf("read the image store's names in %s: %w", s.refsPath(), err)
	}
	return refs, nil
}

func (s *Store) write(refs map[string]Image) error {
	b, err := json.MarshalIndent(refs, "", " ")
	if err != nil {
		return fmt.Errorf("write the image store's names: %w", err)
	}
	if err := writeSynced(s.refsPath(), b); err != nil {
		return fmt.Errorf("write the image store's names: %w", err)
	}
	return nil
}

// writeSynced replaces a file whole or not at all, also when the power goes.
func writeSynced(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (s *Store) lock() (func(), error) {
	f, err := os.OpenFile(filepath.Join(s.cfg.Root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the image store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the image store: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// shortName is the first 13 hex digits of a chain ID.
func shortName(chainID string) string { return strings.TrimPrefix(chainID, "sha256:")[:13] }
