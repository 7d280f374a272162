package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive is as much of tar as `kubectl cp` calls: `tar cf - PATH` writes an archive of a file or folder, `tar -xmf - -C DIR` reads one.
func archive(args []string, in io.Reader, out io.Writer) error {
	if len(args) < 3 {
		return errors.New("usage: tar cf - PATH | tar -xmf - -C DIR")
	}
	dir := "."
	rest := args[2:]
	if rest[0] == "-C" && len(rest) > 1 {
		dir = rest[1]
	}
	if strings.Contains(args[0], "x") {
		return unpack(in, dir)
	}
	return pack(rest[0], out)
}

// isFolder is `test -d PATH`.
func isFolder(args []string) error {
	if len(args) != 2 || args[0] != "-d" {
		return errors.New("usage: test -d PATH")
	}
	info, err := os.Stat(args[1])
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", args[1])
	}
	return err
}

func pack(root string, out io.Writer) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path, "/")
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func unpack(in io.Reader, dir string) error {
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s lies outside the folder", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
}
