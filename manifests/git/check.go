package git

import (
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// treeStat sums up a tree with everything below it. It is kept by hash, so that a tree is looked at once however often it is
// used: a tree that names the same subtree many times cannot make the check slow.
type treeStat struct {
	files, depth, path int
}

// Check refuses a quarantine that would leave the repository with a dangling link, a name that harms a checkout, or a tree
// beyond the limits. Every object of the pack is checked, reachable or not: so a repository that was whole stays whole.
func (q *Quarantine) Check() error {
	c := checker{q: q, limits: q.base.cfg.Limits, stats: map[Hash]treeStat{}}
	for h, o := range q.own {
		var err error
		switch o.kind {
		case plumbing.CommitObject:
			err = c.commit(o)
		case plumbing.TreeObject:
			_, err = c.tree(h, 0)
		case plumbing.TagObject:
			err = c.tag(o)
		}
		if err != nil {
			return err
		}
	}
	q.base.remember(c.stats)
	return nil
}

type checker struct {
	q      *Quarantine
	limits Limits
	stats  map[Hash]treeStat
}

func (c *checker) commit(o *Object) error {
	commit, err := parseCommit(o)
	if err != nil {
		return err
	}
	for _, p := range commit.Parents {
		if _, err := lookup(c.q.object).typed(p, plumbing.CommitObject); err != nil {
			return fmt.Errorf("commit %s: its parent is not here (%w): push from a full clone", o.hash, err)
		}
	}
	s, err := c.tree(commit.Tree, 0)
	if err != nil {
		return fmt.Errorf("commit %s: %w", o.hash, err)
	}
	if s.files > c.limits.Files {
		return fmt.Errorf("commit %s: its tree has %d files, more than the limit of %d", o.hash, s.files, c.limits.Files)
	}
	return nil
}

func (c *checker) tag(o *Object) error {
	h, err := parseTag(o)
	if err != nil {
		return err
	}
	if _, ok := c.q.object(h); !ok {
		return fmt.Errorf("tag %s: object %s is missing", o.hash, h)
	}
	return nil
}

func (c *checker) tree(h Hash, depth int) (treeStat, error) {
	if s, ok := c.stats[h]; ok {
		return s, nil
	}
	if s, ok := c.q.base.stat(h); ok {
		return s, nil
	}
	if depth > c.limits.Depth {
		return treeStat{}, fmt.Errorf("folders are nested deeper than %d", c.limits.Depth)
	}
	entries, err := c.q.Tree(h)
	if err != nil {
		return treeStat{}, err
	}
	var s treeStat
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if seen[e.Name] {
			return treeStat{}, fmt.Errorf("%s: stands twice in its folder", e.Name)
		}
		seen[e.Name] = true
		sub, err := c.entry(e, depth)
		if err != nil {
			return treeStat{}, err
		}
		s.files += sub.files
		s.depth = max(s.depth, sub.depth)
		s.path = max(s.path, sub.path)
	}
	// A number that has grown past every limit stays there: it must not overflow.
	s.files = min(s.files, 1<<40)
	switch {
	case s.depth > c.limits.Depth:
		return treeStat{}, fmt.Errorf("folders are nested deeper than %d", c.limits.Depth)
	case s.path > c.limits.PathBytes:
		return treeStat{}, fmt.Errorf("a path is longer than %d bytes", c.limits.PathBytes)
	}
	c.stats[h] = s
	return s, nil
}

func (c *checker) entry(e Entry, depth int) (treeStat, error) {
	if err := checkName(e.Name); err != nil {
		return treeStat{}, err
	}
	switch {
	case e.IsDir():
		s, err := c.tree(e.Hash, depth+1)
		if err != nil {
			return treeStat{}, fmt.Errorf("%s/%w", e.Name, err)
		}
		return treeStat{files: s.files, depth: s.depth + 1, path: s.path + 1 + len(e.Name)}, nil
	case e.Mode == modeSymlink:
		return treeStat{}, fmt.Errorf("%s: is a symbolic link; replace it by the file it points to", e.Name)
	case e.Mode == modeGitlink:
		return treeStat{}, fmt.Errorf("%s: is a submodule; add its files instead", e.Name)
	case e.Mode&modeType != modeRegular:
		return treeStat{}, fmt.Errorf("%s: has the unknown mode %o", e.Name, e.Mode)
	}
	if _, err := lookup(c.q.object).typed(e.Hash, plumbing.BlobObject); err != nil {
		return treeStat{}, fmt.Errorf("%s: %w", e.Name, err)
	}
	return treeStat{files: 1, path: len(e.Name)}, nil
}

// checkName refuses names that would write outside a checkout or into its .git folder, on any file system.
func checkName(name string) error {
	plain := strings.ToLower(strings.TrimRight(name, ". "))
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q is no file name", name)
	case plain == ".git" || plain == "git~1" || strings.HasPrefix(plain, ".git:") || stripIgnored(plain) == ".git":
		return fmt.Errorf("%q: git keeps its own data under this name", name)
	case plain == ".gitmodules":
		return fmt.Errorf("%q: submodules are not followed; add their files instead", name)
	}
	return nil
}

// stripIgnored removes the code points that HFS+ ignores in names, as git's verify_path does.
func stripIgnored(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff {
			return -1
		}
		return r
	}, name)
}

func (r *Repository) stat(h Hash) (treeStat, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.stats[h]
	return s, ok
}

// remember keeps what was learnt about trees. A tree's summary is true wherever the tree stands, and small.
func (r *Repository) remember(stats map[Hash]treeStat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.stats) > 1<<20 {
		clear(r.stats)
	}
	for h, s := range stats {
		r.stats[h] = s
	}
}
