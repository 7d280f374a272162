package manifests

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"reconcile/object"
	"reconcile/schema"
)

// Config says how manifests are loaded.
type Config struct {
	// Evaluator evaluates users' CUE. If it is nil, CUE files are findings.
	Evaluator Evaluator
	// CacheBytes bounds the memory of cached verdicts, roughly; 0 is 128 MiB.
	CacheBytes int
}

// Loader reads trees. It remembers the verdict on every file by path and content, so that a second load of a tree costs what
// has changed. It is safe for concurrent use.
type Loader struct {
	cfg     Config
	checker *checker
	cache   *cache
}

// NewLoader compiles the constraints.
func NewLoader(cfg Config) (*Loader, error) {
	rules, err := schema.NewConstraints()
	if err != nil {
		return nil, err
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 128 << 20
	}
	return &Loader{cfg: cfg, checker: &checker{types: &types{}, constraints: rules}, cache: newCache(cfg.CacheBytes)}, nil
}

// Result is what a tree holds.
type Result struct {
	// Manifests are all objects in the order of file, line and column. They are shared and never changed.
	Manifests []*Manifest
	// Findings are all mistakes in the same order, at most maxFindings and one that counts the rest. With findings the manifests
	// are not complete.
	Findings []Finding
	// Files is the number of files that were taken for manifests, CUE or policies.
	Files int
}

// maxFindings bounds what one load reports.
const maxFindings = 1000

// Load reads every manifest of a tree and returns all mistakes at once. An error means that the tree could not be read.
func (l *Loader) Load(ctx context.Context, tree Tree) (*Result, error) {
	files, err := tree.Files()
	if err != nil {
		return nil, err
	}
	ignore, err := readPath(tree, files, ignoreFile)
	if err != nil && !errors.Is(err, errNoFile) {
		return nil, err
	}
	sel := choose(files, ignore)
	verdicts, err := l.documents(ctx, tree, sel.documents)
	if err != nil {
		return nil, err
	}
	fromCUE, err := l.packages(ctx, tree, sel)
	if err != nil {
		return nil, err
	}
	res := &Result{Files: len(sel.documents) + len(sel.cue) + len(sel.policy)}
	for _, v := range append(verdicts, fromCUE) {
		res.Manifests = append(res.Manifests, v.manifests...)
		res.Findings = append(res.Findings, v.findings...)
	}
	slices.SortStableFunc(res.Manifests, func(a, b *Manifest) int { return a.Position.compare(b.Position) })
	found, err := l.policy(ctx, tree, sel, res.Manifests)
	if err != nil {
		return nil, err
	}
	res.Findings = append(res.Findings, found...)
	res.duplicates()
	res.Findings = SortFindings(res.Findings)
	if n := len(res.Findings); n > maxFindings {
		last := res.Findings[maxFindings-1]
		res.Findings = append(res.Findings[:maxFindings:maxFindings], Finding{last.Position, fmt.Sprintf("and %d more", n-maxFindings)})
	}
	return res, nil
}

// duplicates reports objects that stand in the tree twice, at the second place.
func (r *Result) duplicates() {
	seen := make(map[object.Key]*Manifest, len(r.Manifests))
	for _, m := range r.Manifests {
		if first, twice := seen[m.Key]; twice {
			r.Findings = append(r.Findings, Finding{m.Position, fmt.Sprintf("%s is defined already at %s; remove one of the two", m.Key, first.Position)})
			continue
		}
		seen[m.Key] = m
	}
}

// documents reads YAML and JSON files, those that are not cached by as many workers as there are processors.
func (l *Loader) documents(ctx context.Context, tree Tree, files []File) ([]*verdict, error) {
	out := make([]*verdict, len(files))
	var todo []int
	for i, f := range files {
		if v, ok := l.cache.get(cacheKey(f)); ok {
			out[i] = v
		} else {
			todo = append(todo, i)
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(len(todo), runtime.GOMAXPROCS(0)))
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(todo) {
					return
				}
				errs[w] = ctx.Err()
				if i := todo[n]; errs[w] == nil {
					out[i], errs[w] = l.document(tree, files[i])
				}
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func (l *Loader) document(tree Tree, f File) (*verdict, error) {
	content, err := tree.Read(f)
	if err != nil {
		return nil, err
	}
	v := l.checker.file(f.Path, content)
	l.cache.put(cacheKey(f), v, verdictSize(v, len(content)))
	return v, nil
}

// verdictSize guesses what a verdict holds in memory: the decoded object is some times as large as its source.
func verdictSize(v *verdict, source int) int { return 512 + 4*source + 128*len(v.findings) }

// cacheKey is a file's path and content. The rules are part of the program, so a new program starts with an empty cache.
func cacheKey(f File) string { return f.Hash + f.Path }

// joinHashes is a key for a set of files.
func joinHashes(prefix string, files ...File) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, f := range files {
		b.WriteString("\x00" + f.Path + "\x00" + f.Hash)
	}
	return b.String()
}
