package git

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

// File is one file of a tree with its whole path.
type File struct {
	Path string
	Hash Hash
}

// Trees reads trees; Repository and Quarantine do.
type Trees interface {
	Tree(h Hash) ([]Entry, error)
}

// Files lists the files below a tree in the order of paths. A zero hash is the empty tree. skip, if not nil, leaves out a
// folder by its path, with all that is below it.
func Files(t Trees, root Hash, skip func(dir string) bool) ([]File, error) {
	var out []File
	var walk func(h Hash, dir string) error
	walk = func(h Hash, dir string) error {
		entries, err := t.Tree(h)
		if err != nil {
			return err
		}
		for _, e := range entries {
			p := path.Join(dir, e.Name)
			if !e.IsDir() {
				out = append(out, File{Path: p, Hash: e.Hash})
				continue
			}
			if skip != nil && skip(p) {
				continue
			}
			if err := walk(e.Hash, p); err != nil {
				return err
			}
		}
		return nil
	}
	if root.IsZero() {
		return nil, nil
	}
	if err := walk(root, ""); err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// Lookup finds the blob of a path in a tree.
func Lookup(t Trees, root Hash, p string) (Hash, error) {
	parts := strings.Split(p, "/")
	for i, name := range parts {
		entries, err := t.Tree(root)
		if err != nil {
			return Hash{}, err
		}
		j := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name && e.IsDir() == (i < len(parts)-1) })
		if j < 0 {
			return Hash{}, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
		root = entries[j].Hash
	}
	return root, nil
}

// Change is a file that differs between two trees. A zero Old was added, a zero New removed.
type Change struct {
	Path     string
	Old, New Hash
}

// Diff lists the files that differ, in the order of paths. Subtrees with the same hash are not looked at, so that the cost is
// that of what changed. A zero hash is the empty tree.
func Diff(t Trees, old, next Hash) ([]Change, error) {
	var out []Change
	if err := diffTrees(t, old, next, "", &out); err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

func diffTrees(t Trees, old, next Hash, dir string, out *[]Change) error {
	if old == next {
		return nil
	}
	a, err := entriesOf(t, old)
	if err != nil {
		return err
	}
	b, err := entriesOf(t, next)
	if err != nil {
		return err
	}
	for name, e := range a {
		f, both := b[name]
		if both && f.Hash == e.Hash && f.IsDir() == e.IsDir() {
			continue
		}
		if err := diffEntry(t, e, f, path.Join(dir, name), out); err != nil {
			return err
		}
	}
	for name, f := range b {
		if _, both := a[name]; !both {
			if err := diffEntry(t, Entry{}, f, path.Join(dir, name), out); err != nil {
				return err
			}
		}
	}
	return nil
}

// diffEntry compares two entries of one name; a zero entry is none.
func diffEntry(t Trees, a, b Entry, p string, out *[]Change) error {
	var c Change
	var oldTree, newTree Hash
	if a.IsDir() {
		oldTree = a.Hash
	} else {
		c.Old = a.Hash
	}
	if b.IsDir() {
		newTree = b.Hash
	} else {
		c.New = b.Hash
	}
	if c.Old != c.New {
		c.Path = p
		*out = append(*out, c)
	}
	return diffTrees(t, oldTree, newTree, p, out)
}

func entriesOf(t Trees, h Hash) (map[string]Entry, error) {
	if h.IsZero() {
		return nil, nil
	}
	entries, err := t.Tree(h)
	if err != nil {
		return nil, err
	}
	m := make(map[string]Entry, len(entries))
	for _, e := range entries {
		m[e.Name] = e
	}
	return m, nil
}
