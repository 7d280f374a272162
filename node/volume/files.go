package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// file is one file of a volume that follows objects.
type file struct {
	data []byte
	mode int32
}

func keys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

// files are what the volume should hold, by path.
func (p Pod) files(ctx context.Context, v corev1.Volume) (map[string]file, error) {
	out := map[string]file{}
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return out, p.addConfigMap(ctx, out, s.Name, s.Items, mode(s.DefaultMode), s.Optional)
	case v.Secret != nil:
		s := v.Secret
		return out, p.addSecret(ctx, out, s.SecretName, s.Items, mode(s.DefaultMode), s.Optional)
	case v.DownwardAPI != nil:
		return out, p.addDownward(out, v.DownwardAPI.Items, mode(v.DownwardAPI.DefaultMode))
	}
	m := mode(v.Projected.DefaultMode)
	for _, s := range v.Projected.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = p.addConfigMap(ctx, out, s.ConfigMap.Name, s.ConfigMap.Items, m, s.ConfigMap.Optional)
		case s.Secret != nil:
			err = p.addSecret(ctx, out, s.Secret.Name, s.Secret.Items, m, s.Secret.Optional)
		case s.DownwardAPI != nil:
			err = p.addDownward(out, s.DownwardAPI.Items, m)
		default:
			err = configError("a projected source of this kind is not supported yet; configMap, secret and downwardAPI are")
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func (p Pod) addConfigMap(ctx context.Context, out map[string]file, name string, items []corev1.KeyToPath, m int32, optional *bool) error {
	cm, err := p.Get.ConfigMap(ctx, p.Pod.Namespace, name)
	if err != nil {
		return missing(err, "configmap", name, optional)
	}
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, cm.BinaryData)
	return itemsOf{kind: "configmap", namespace: p.Pod.Namespace, name: name, items: items, mode: m, optional: optional}.add(out, data)
}

func (p Pod) addSecret(ctx context.Context, out map[string]file, name string, items []corev1.KeyToPath, m int32, optional *bool) error {
	s, err := p.Get.Secret(ctx, p.Pod.Namespace, name)
	if err != nil {
		return missing(err, "secret", name, optional)
	}
	return itemsOf{kind: "secret", namespace: p.Pod.Namespace, name: name, items: items, mode: m, optional: optional}.add(out, s.Data)
}

// missing turns the absence of an object into nothing if it is optional, else into a fault that names it.
func missing(err error, kind, name string, optional *bool) error {
	if !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("get %s %q: %w", kind, name, err)
	}
	if optional != nil && *optional {
		return nil
	}
	return configError("%s %q not found", kind, name)
}

// itemsOf is what a volume takes of a ConfigMap or Secret: all keys, or some under paths of their own.
type itemsOf struct {
	kind, namespace, name string
	items                 []corev1.KeyToPath
	mode                  int32
	optional              *bool
}

// add enters the files that data, the object's keys and values, makes.
func (s itemsOf) add(out map[string]file, data map[string][]byte) error {
	if len(s.items) == 0 {
		for k, v := range data {
			out[k] = file{v, s.mode}
		}
		return nil
	}
	for _, i := range s.items {
		v, ok := data[i.Key]
		if !ok {
			if s.optional != nil && *s.optional {
				continue
			}
			return configError("references non-existent %s key: %s/%s has no key %q", s.kind, s.namespace, s.name, i.Key)
		}
		f := file{v, s.mode}
		if i.Mode != nil {
			f.mode = *i.Mode
		}
		if err := safe(i.Path); err != nil {
			return err
		}
		out[path.Clean(i.Path)] = f
	}
	return nil
}

func safe(p string) error {
	c := path.Clean(p)
	if p == "" || path.IsAbs(p) || c == ".." || strings.HasPrefix(c, "../") || strings.HasPrefix(c, "..") {
		return configError("path %q leads out of the volume", p)
	}
	return nil
}

func (p Pod) addDownward(out map[string]file, items []corev1.DownwardAPIVolumeFile, m int32) error {
	for _, i := range items {
		var text string
		var err error
		switch {
		case i.FieldRef != nil:
			text, err = FieldValue(p.Pod, p.IP, i.FieldRef.FieldPath)
		case i.ResourceFieldRef != nil:
			text, err = ResourceValue(p.Pod, i.ResourceFieldRef.ContainerName, i.ResourceFieldRef, Allocatable{})
		}
		if err != nil {
			return err
		}
		if err := safe(i.Path); err != nil {
			return err
		}
		f := file{[]byte(text), m}
		if i.Mode != nil {
			f.mode = *i.Mode
		}
		out[path.Clean(i.Path)] = f
	}
	return nil
}

const (
	dataLink = "..data"
	dataTmp  = "..data_tmp"
)

// writeFiles replaces all files at once: they are written to a new folder, and the link ..data is renamed onto it; each top name is
// a link through ..data, so that a reader sees either all of the old or all of the new.
func (p Pod) writeFiles(name string, files map[string]file) error {
	dir := p.dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, _ := os.Readlink(filepath.Join(dir, dataLink))
	if old != "" && same(filepath.Join(dir, old), files) {
		return nil
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	if err := fill(fresh, files); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	tmp := filepath.Join(dir, dataTmp)
	_ = os.Remove(tmp)
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := linkTops(dir, files); err != nil {
		return err
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return nil
}

func fill(dir string, files map[string]file) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for n, f := range files {
		full := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return err
		}
		if err := unix.Chmod(full, uint32(f.mode)); err != nil { // os.Chmod would take special bits otherwise
			return err
		}
	}
	return nil
}

// same tells whether a folder holds exactly the files.
func same(dir string, files map[string]file) bool {
	n := 0
	err := filepath.WalkDir(dir, func(full string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		f, ok := files[filepath.ToSlash(rel)]
		st, serr := d.Info()
		b, rerr := os.ReadFile(full)
		if !ok || serr != nil || rerr != nil || !bytes.Equal(b, f.data) || st.Mode().Perm() != os.FileMode(f.mode).Perm() {
			return errors.New("differs")
		}
		n++
		return nil
	})
	return err == nil && n == len(files)
}

// linkTops makes a link for each top name and removes those of names that are gone.
func linkTops(dir string, files map[string]file) error {
	want := map[string]bool{}
	for n := range files {
		top, _, _ := strings.Cut(n, "/")
		want[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		have[e.Name()] = true
		if !want[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, n := range keys(want) {
		if !have[n] {
			if err := os.Symlink(filepath.Join(dataLink, n), filepath.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}
