package git

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// NewCommit puts a commit with the given files into the quarantine and returns its hash. parent may be zero. The same
// arguments give the same hash. Files whose content the repository holds already add nothing. author is NAME <EMAIL>.
func (q *Quarantine) NewCommit(parent Hash, files map[string][]byte, author, message string, at time.Time) (Hash, error) {
	root := newFolder()
	for p, content := range files {
		if err := root.put(strings.Split(p, "/"), content); err != nil {
			return Hash{}, fmt.Errorf("make a commit: %s: %w", p, err)
		}
	}
	tree := q.storeFolder(root)
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	if !parent.IsZero() {
		fmt.Fprintf(&b, "parent %s\n", parent)
	}
	who := strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, author)
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n\n%s\n", who, at.Unix(), who, at.Unix(), strings.TrimSpace(message))
	hash := q.addNew(newObject(plumbing.CommitObject, []byte(b.String())))
	return hash, q.Check()
}

type folder struct {
	files map[string][]byte
	dirs  map[string]*folder
}

func newFolder() *folder { return &folder{files: map[string][]byte{}, dirs: map[string]*folder{}} }

func (f *folder) put(parts []string, content []byte) error {
	if err := checkName(parts[0]); err != nil {
		return err
	}
	if len(parts) == 1 {
		if f.dirs[parts[0]] != nil {
			return fmt.Errorf("%s is a file and a folder", parts[0])
		}
		f.files[parts[0]] = content
		return nil
	}
	if _, ok := f.files[parts[0]]; ok {
		return fmt.Errorf("%s is a file and a folder", parts[0])
	}
	if f.dirs[parts[0]] == nil {
		f.dirs[parts[0]] = newFolder()
	}
	return f.dirs[parts[0]].put(parts[1:], content)
}

// storeFolder stores blobs and trees, entries in git's order (a folder sorts as if its name ended in a slash).
func (q *Quarantine) storeFolder(f *folder) Hash {
	type row struct{ sort, text string }
	var rows []row
	for name, content := range f.files {
		h := q.addNew(newObject(plumbing.BlobObject, content))
		rows = append(rows, row{name, "100644 " + name + "\x00" + string(h[:])})
	}
	for name, sub := range f.dirs {
		h := q.storeFolder(sub)
		rows = append(rows, row{name + "/", "40000 " + name + "\x00" + string(h[:])})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].sort < rows[j].sort })
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.text)
	}
	return q.addNew(newObject(plumbing.TreeObject, []byte(b.String())))
}

// addNew adds an object unless the repository holds it, and returns its hash.
func (q *Quarantine) addNew(o *Object) Hash {
	if _, ok := q.base.object(o.hash); !ok {
		q.own[o.hash] = o
	}
	return o.hash
}
