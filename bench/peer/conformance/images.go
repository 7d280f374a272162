package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// image is one of the suite's images: its name, the folder that is its root, the folder that is laid over it, if any, and what its configuration says.
type image struct {
	name, root      string
	over            string
	entrypoint, cmd []string
	user            string
}

// images are those of the conformance specs; see e2e.test --list-images.
var images = []image{
	{name: "registry.k8s.io/e2e-test-images/agnhost:2.63.0", root: "agnhost", entrypoint: []string{"/agnhost"}, cmd: []string{"pause"}},
	{name: "registry.k8s.io/e2e-test-images/agnhost:2.55", root: "agnhost", entrypoint: []string{"/agnhost"}, cmd: []string{"pause"}},
	{name: "registry.k8s.io/e2e-test-images/busybox:1.37.0-1", root: "busybox", cmd: []string{"sh"}},
	{name: "registry.k8s.io/e2e-test-images/busybox:1.36.1-1", root: "busybox", cmd: []string{"sh"}},
	{name: "registry.k8s.io/e2e-test-images/nginx:1.27-0", root: "nginx", cmd: []string{"/usr/sbin/nginx", "-g", "daemon off;"}},
	{name: "registry.k8s.io/e2e-test-images/nginx:1.15-4", root: "nginx", cmd: []string{"/usr/sbin/nginx", "-g", "daemon off;"}},
	{name: "registry.k8s.io/e2e-test-images/kitten:1.8", root: "agnhost", over: "kitten", entrypoint: []string{"/agnhost"}, cmd: []string{"test-webserver"}},
	{name: "registry.k8s.io/e2e-test-images/nautilus:1.8", root: "agnhost", over: "nautilus", entrypoint: []string{"/agnhost"}, cmd: []string{"test-webserver"}},
	{name: "registry.k8s.io/e2e-test-images/nonewprivs:1.4", root: "nonewprivs", cmd: []string{"nnp"}},
	{name: "registry.k8s.io/e2e-test-images/nonroot:1.5", root: "busybox", cmd: []string{"sh"}, user: "1234"},
	{name: "registry.k8s.io/e2e-test-images/resource-consumer:1.14", root: "resource-consumer", entrypoint: []string{"/consumer"}},
	{name: "registry.k8s.io/pause:3.10.2", root: "pause", entrypoint: []string{"/pause"}},
}

// layer is a layer's file and digest.
type layer struct{ path, digest string }

// archive makes docker archives of the images in a new folder and returns their paths. Images of the same root share its layer.
func archive(o options, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	layers := map[string]layer{}
	var out []string
	for i, img := range images {
		var of []layer
		for _, folder := range []string{img.root, img.over} {
			if folder == "" {
				continue
			}
			l, ok := layers[folder]
			if !ok {
				l.path = filepath.Join(dir, folder+".layer")
				from := filepath.Join(o.images, folder)
				if folder == "pause" {
					from = filepath.Dir(o.pause)
				}
				var err error
				if l.digest, err = writeLayer(l.path, from); err != nil {
					return nil, fmt.Errorf("make image %s: %w", img.name, err)
				}
				layers[folder] = l
			}
			of = append(of, l)
		}
		path := filepath.Join(dir, fmt.Sprintf("%02d.tar", i))
		if err := writeArchive(path, img, of); err != nil {
			return nil, fmt.Errorf("make image %s: %w", img.name, err)
		}
		out = append(out, path)
	}
	for _, l := range layers {
		if err := os.Remove(l.path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// writeLayer writes a folder as a layer, everything owned by root and of one time, and returns its digest.
func writeLayer(path, from string) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, sum))
	err = filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime = rel, 0, 0, "", "", time.Unix(0, 0)
		if d.IsDir() {
			h.Name += "/"
		}
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		in, err := os.Open(p)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
	if err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), f.Close()
}

// writeArchive writes an archive as docker save does.
func writeArchive(path string, img image, layers []layer) error {
	var digests, names []string
	for i, l := range layers {
		digests, names = append(digests, "sha256:"+l.digest), append(names, fmt.Sprintf("%d.tar", i))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": img.entrypoint, "Cmd": img.cmd, "User": img.user,
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": digests},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{img.name}, "Layers": names}})
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for name, content := range map[string][]byte{"manifest.json": manifest, "config.json": config} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	for i, l := range layers {
		if err := addFile(w, names[i], l.path); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addFile(w *tar.Writer, name, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}
