package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	goos   = goruntime.GOOS
	goarch = goruntime.GOARCH
)

// BuildOptions say what a built image runs by default. Empty fields are chosen by Build.
type BuildOptions struct {
	// Entrypoint is the command. Empty: the binary; of a folder, its executable /app if there is one, else none.
	Entrypoint []string
	Env        []string
	WorkDir    string
	User       string
}

// Build makes an image of one layer from a static binary (which becomes /app) or a folder (which becomes the root), with the entry
// point /app, and stores it under ref. The same input gives the same digest: owners are root, times are zero.
func (s *Store) Build(ctx context.Context, ref, path string, o BuildOptions) (Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", ref, err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if st.IsDir() {
		err = addFolder(tw, path)
		if app, e := os.Stat(filepath.Join(path, "app")); e == nil && app.Mode().IsRegular() && app.Mode()&0o111 != 0 && len(o.Entrypoint) == 0 {
			o.Entrypoint = []string{"/app"}
		}
	} else {
		if err := checkStatic(path); err != nil {
			return Image{}, fmt.Errorf("build image %s: %w", ref, err)
		}
		err = errors.Join(addDirs(tw, "etc", "tmp"), addFile(tw, path, "app", 0o755), addText(tw, "etc/passwd", passwd), addText(tw, "etc/group", group))
		if len(o.Entrypoint) == 0 {
			o.Entrypoint = []string{"/app"}
		}
	}
	if err = errors.Join(err, tw.Close()); err != nil {
		return Image{}, fmt.Errorf("build image %s from %s: %w", ref, path, err)
	}
	layer, err := tarball.LayerFromOpener(readAll(buf.Bytes()))
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", ref, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", ref, err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", ref, err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = goos, goarch
	cf.Config = v1.Config{Entrypoint: o.Entrypoint, Env: append([]string{"PATH=" + defaultPath}, o.Env...), WorkingDir: o.WorkDir, User: o.User}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", ref, err)
	}
	return s.Put(ctx, ref, img)
}

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	passwd      = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
	group       = "root:x:0:\nnobody:x:65534:\n"
)

// checkStatic refuses what could not run without a library: the commonest mistake with an image of one binary.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is neither a folder nor a Linux binary: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically and the image would hold no libraries: build it with CGO_ENABLED=0, or give a folder", path)
		}
	}
	return nil
}

func addDirs(tw *tar.Writer, names ...string) error {
	for _, n := range names {
		mode := int64(0o755)
		if n == "tmp" {
			mode = 0o1777
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: n + "/", Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	return nil
}

func addText(tw *tar.Writer, name, text string) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.WriteString(tw, text)
	return err
}

func addFile(tw *tar.Writer, path, name string, mode fs.FileMode) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size(), Mode: int64(mode.Perm()), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

func addFolder(tw *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(rel), Mode: int64(st.Mode().Perm()), ModTime: time.Unix(0, 0)}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(h.Name, "/")+"/"
			return tw.WriteHeader(h)
		case st.Mode()&fs.ModeSymlink != 0:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = os.Readlink(path); err != nil {
				return err
			}
			return tw.WriteHeader(h)
		case st.Mode().IsRegular():
			return addFile(tw, path, h.Name, st.Mode())
		}
		return fmt.Errorf("%s is neither file, folder nor link: it cannot go into an image", path)
	})
}
