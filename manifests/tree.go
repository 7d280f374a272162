package manifests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"reconcile/manifests/git"
)

// Tree is a set of files with content hashes: a commit's tree or a folder. It does not change while it is read.
type Tree interface {
	// Files lists the regular files below the root, in the order of paths. Folders that begin with a dot are left out.
	Files() ([]File, error)
	// Read returns a file's content, which is not to be changed.
	Read(f File) ([]byte, error)
}

// File is one file of a Tree. Hash is the git hash of its content, 40 hex digits.
type File struct {
	Path string
	Hash string
}

// Objects reads git objects: *git.Repository and *git.Quarantine do.
type Objects interface {
	git.Trees
	Blob(h git.Hash) ([]byte, bool)
}

// CommitTree is the tree of a commit as a Tree. root is the tree's hash, not the commit's; a zero hash is the empty tree.
func CommitTree(o Objects, root git.Hash) Tree { return commitTree{o, root} }

type commitTree struct {
	objects Objects
	root    git.Hash
}

// Files implements Tree.
func (t commitTree) Files() ([]File, error) {
	list, err := git.Files(t.objects, t.root, func(dir string) bool { return hidden(path.Base(dir)) })
	if err != nil {
		return nil, fmt.Errorf("list the files of tree %s: %w", t.root, err)
	}
	out := make([]File, len(list))
	for i, f := range list {
		out[i] = File{Path: f.Path, Hash: f.Hash.String()}
	}
	return out, nil
}

// Read implements Tree.
func (t commitTree) Read(f File) ([]byte, error) {
	h, _ := git.ParseHash(f.Hash)
	b, ok := t.objects.Blob(h)
	if !ok {
		return nil, fmt.Errorf("read %s: blob %s is missing", f.Path, f.Hash)
	}
	return b, nil
}

// Files is a Tree in memory: contents by path.
type Files map[string][]byte

// Folder reads a folder into memory, as a commit of it would hold it: regular files, without folders that begin with a dot.
// Symbolic links are an error, as they are in a push. A path that is a file gives that one file.
func Folder(root string) (Files, error) {
	out := Files{}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", root, err)
	}
	if !info.IsDir() {
		content, err := os.ReadFile(root)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", root, err)
		}
		return Files{filepath.Base(root): content}, nil
	}
	total := int64(0)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && rel != "." && hidden(d.Name()):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link; replace it by the file it points to", p)
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if total += int64(len(content)); total > maxFolder {
			return fmt.Errorf("the folder holds more than %d MiB", maxFolder>>20)
		}
		out[filepath.ToSlash(rel)] = content
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", root, err)
	}
	return out, nil
}

// maxFolder bounds what Folder reads into memory.
const maxFolder = 256 << 20

// Files implements Tree.
func (t Files) Files() ([]File, error) {
	out := make([]File, 0, len(t))
	for p, content := range t {
		if slices.ContainsFunc(strings.Split(path.Dir(p), "/"), hidden) {
			continue
		}
		out = append(out, File{Path: p, Hash: git.BlobHash(content).String()})
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Read implements Tree.
func (t Files) Read(f File) ([]byte, error) {
	b, ok := t[f.Path]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", f.Path, fs.ErrNotExist)
	}
	return b, nil
}

// hidden tells whether a folder of that name is left out.
func hidden(name string) bool { return strings.HasPrefix(name, ".") && name != "." }

// errNoFile is returned by readPath for a path that the list does not hold.
var errNoFile = errors.New("no such file")

// readPath reads one file of a list by its path.
func readPath(t Tree, files []File, p string) ([]byte, error) {
	i, ok := slices.BinarySearchFunc(files, p, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return nil, errNoFile
	}
	return t.Read(files[i])
}
