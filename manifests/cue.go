package manifests

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"reconcile/object"
)

// Evaluator runs one request in a place where it can do no harm and calls each for every answer. It returns an error that a
// user may read when the evaluation used more than it may, and wraps errBroken when it could not be run at all.
type Evaluator interface {
	Evaluate(ctx context.Context, request []byte, each func(line []byte) error) error
}

// errBroken tells that the evaluation failed through no fault of what was evaluated.
var errBroken = errors.New("the CUE evaluator does not work")

// Child evaluates CUE in a child process: `Command...` with the request on standard input.
type Child struct {
	// Command is the program and its arguments. It must call EvalMain.
	Command []string
	// Deadline bounds an evaluation's time; 0 is 10 s. Output bounds its answer; 0 is 64 MiB.
	Deadline time.Duration
	Output   int64
	slots    chan struct{}
}

// NewChild returns the evaluator that starts this very program with the hidden subcommand cue-eval, also when its file has been
// replaced since by a newer version. At most two run at once.
func NewChild() (*Child, error) {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return &Child{Command: []string{self, "cue-eval"}, slots: make(chan struct{}, 2)}, nil
}

// Evaluate implements Evaluator.
func (c *Child) Evaluate(ctx context.Context, request []byte, each func([]byte) error) error {
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	deadline, output := c.Deadline, c.Output
	if deadline == 0 {
		deadline = evalSeconds * time.Second
	}
	if output == 0 {
		output = 64 << 20
	}
	root, err := os.MkdirTemp("", "reconcile-cue-")
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	defer os.Remove(root)
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	cmd := exec.CommandContext(bounded, c.Command[0], c.Command[1:]...)
	cmd.Env = []string{"GOMAXPROCS=2", "CUE_REGISTRY=none", "CUE_CACHE_DIR=/nonexistent", "HOME=/nonexistent", emptyRoot + "=" + root}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(request)
	cmd.WaitDelay = time.Second
	isolate(cmd)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: start it: %w", errBroken, err)
	}
	readErr := readAnswers(io.LimitReader(out, output+1), output, each)
	if readErr != nil {
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case readErr != nil && !errors.Is(readErr, errCut):
		return readErr
	case bounded.Err() != nil && readErr == nil && waitErr == nil:
		return nil
	case errors.Is(bounded.Err(), context.DeadlineExceeded):
		return fmt.Errorf("evaluating this CUE takes longer than %v; it was stopped", deadline)
	case stderr.says("out of memory") || stderr.says("cannot allocate memory"):
		return fmt.Errorf("evaluating this CUE takes more than %d MiB of memory; it was stopped", evalMemory>>20)
	case killed(waitErr):
		return fmt.Errorf("evaluating this CUE takes more than %d s of processor time or too much memory; it was stopped", evalSeconds)
	case waitErr != nil || readErr != nil:
		return fmt.Errorf("evaluating this CUE failed: %w: %s", errors.Join(waitErr, readErr), stderr.first())
	}
	return nil
}

// killed tells whether the kernel ended the child.
func killed(err error) bool {
	var e *exec.ExitError
	return errors.As(err, &e) && e.ExitCode() < 0
}

// errCut tells that the answer ended before its end.
var errCut = errors.New("the answer is cut short")

// readAnswers reads JSON lines up to the one that says that all is done.
func readAnswers(r io.Reader, limit int64, each func([]byte) error) error {
	dec := json.NewDecoder(r)
	for {
		var line json.RawMessage
		if err := dec.Decode(&line); err != nil {
			if dec.InputOffset() >= limit {
				return fmt.Errorf("this CUE makes more than %d MiB; it was stopped", limit>>20)
			}
			return errCut
		}
		if err := each(line); err != nil {
			return err
		}
		if bytes.Equal(line, []byte(`{"done":true}`)) {
			return nil
		}
	}
}

// tail keeps the first kilobytes of what the child complains.
type tail struct{ b []byte }

// Write keeps what fits.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), max(0, 8192-len(t.b)))]...)
	return len(p), nil
}

func (t *tail) says(words string) bool { return bytes.Contains(t.b, []byte(words)) }

func (t *tail) first() string {
	line, _, _ := strings.Cut(string(t.b), "\n")
	return line
}

// packages evaluates the CUE packages of a tree. Any change of a CUE file evaluates them again: packages import each other.
func (l *Loader) packages(ctx context.Context, tree Tree, sel selection) (*verdict, error) {
	if len(sel.cue) == 0 {
		return &verdict{}, nil
	}
	if l.cfg.Evaluator == nil {
		v := &verdict{}
		for _, f := range sel.cue {
			v.report(Position{f.Path, 1, 1}, "CUE is not evaluated here")
		}
		return v, nil
	}
	all := slices.Concat(sel.cue, sel.module)
	archive, size, embeds, err := pack(tree, all, sel.documents)
	if err != nil {
		return nil, err
	}
	if embeds {
		all = slices.Concat(all, sel.documents)
	}
	cacheKey := joinHashes("cue", all...)
	if v, ok := l.cache.get(cacheKey); ok {
		return v, nil
	}
	v := &verdict{}
	// A folder that had to be stopped is left out in the next round, so that the others get their verdict.
	dirs := foldersOf(sel.cue)
	for len(dirs) > 0 {
		rest, err := l.evaluate(ctx, archive, evalRequest{Packages: dirs}, sel.cue, v)
		if err != nil {
			return nil, err
		}
		dirs = rest
	}
	v.findings = SortFindings(v.findings)
	if !v.stopped {
		l.cache.put(cacheKey, v, verdictSize(v, size))
	}
	return v, nil
}

// evaluate runs one request for packages. It returns the folders behind the one that had to be stopped.
func (l *Loader) evaluate(ctx context.Context, archive func(evalRequest) ([]byte, error), req evalRequest, files []File, v *verdict) ([]string, error) {
	body, err := archive(req)
	if err != nil {
		return nil, err
	}
	current := req.Packages[0]
	err = l.cfg.Evaluator.Evaluate(ctx, body, func(line []byte) error {
		var a evalAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		switch {
		case a.Start != "":
			current = a.Start
		case a.Finding != nil:
			v.findings = append(v.findings, *a.Finding)
		case a.Object != nil:
			root, ok := decodeObject(a.Object)
			if !ok {
				return fmt.Errorf("%w: an object came without its positions", errBroken)
			}
			l.checker.document(v, root, func() Fields { return positions(root) })
		}
		return nil
	})
	if err == nil || errors.Is(err, errBroken) || ctx.Err() != nil {
		return nil, err
	}
	v.report(Position{firstFile(files, current), 1, 1}, "%v", err)
	v.stopped = true
	if i := slices.Index(req.Packages, current); i >= 0 {
		return req.Packages[i+1:], nil
	}
	return nil, nil
}

// firstFile stands for a folder in a finding.
func firstFile(files []File, dir string) string {
	for _, f := range files {
		if path.Dir(f.Path) == dir {
			return f.Path
		}
	}
	return dir
}

// foldersOf lists the folders of files, each once.
func foldersOf(files []File) []string {
	var out []string
	for _, f := range files {
		if d := path.Dir(f.Path); !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// pack reads files and returns a function that makes a request's archive of them. If a CUE file embeds other files, those are
// packed too.
func pack(tree Tree, cueFiles, others []File) (archive func(evalRequest) ([]byte, error), size int, embeds bool, err error) {
	contents := map[string][]byte{}
	add := func(files []File) error {
		for _, f := range files {
			b, err := tree.Read(f)
			if err != nil {
				return err
			}
			contents[f.Path] = b
			size += len(b)
			embeds = embeds || path.Ext(f.Path) == ".cue" && bytes.Contains(b, []byte("@embed"))
		}
		return nil
	}
	if err = add(cueFiles); err == nil && embeds {
		err = add(others)
	}
	if err != nil {
		return nil, 0, false, err
	}
	if _, ok := contents["cue.mod/module.cue"]; !ok {
		contents["cue.mod/module.cue"] = []byte(moduleFile)
	}
	return func(req evalRequest) ([]byte, error) { return zipRequest(contents, req) }, size, embeds, nil
}

func zipRequest(contents map[string][]byte, req evalRequest) ([]byte, error) {
	raw, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode a CUE request: %w", err)
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	put := func(name string, content []byte) error {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	for name, content := range contents {
		if err := put(name, content); err != nil {
			return nil, fmt.Errorf("encode a CUE request: %w", err)
		}
	}
	if err := errors.Join(put(requestName, raw), z.Close()); err != nil {
		return nil, fmt.Errorf("encode a CUE request: %w", err)
	}
	return buf.Bytes(), nil
}

// policy holds all manifests against the packages below policy/. Verdicts are kept by the policy and the object.
func (l *Loader) policy(ctx context.Context, tree Tree, sel selection, all []*Manifest) ([]Finding, error) {
	if len(sel.policy) == 0 {
		return nil, nil
	}
	if l.cfg.Evaluator == nil {
		return []Finding{{Position{sel.policy[0].Path, 1, 1}, "policies in CUE are not evaluated here"}}, nil
	}
	// Policies may import packages of the tree.
	rules := slices.Concat(sel.policy, sel.cue, sel.module)
	prefix := joinHashes("policy", rules...)
	var out []Finding
	var todo []*Manifest
	var keys []string
	req := evalRequest{Policies: foldersOf(sel.policy)}
	for _, m := range all {
		body, err := object.EncodeJSON(m.Object)
		if err != nil {
			return nil, err
		}
		k := prefix + "\x00" + m.Position.String() + "\x00" + string(m.Set)
		if v, ok := l.cache.get(k); ok {
			out = append(out, v.findings...)
			continue
		}
		todo, keys, req.Objects = append(todo, m), append(keys, k), append(req.Objects, body)
	}
	if v, ok := l.cache.get(prefix); ok && len(todo) == 0 {
		return append(out, v.findings...), nil
	}
	archive, _, _, err := pack(tree, rules, nil)
	if err != nil {
		return nil, err
	}
	found, general, err := l.applyPolicy(ctx, archive, req, sel.policy, todo)
	if err != nil {
		return nil, err
	}
	for i, v := range found {
		if len(general.findings) == 0 {
			l.cache.put(keys[i], v, len(keys[i])+verdictSize(v, 0))
		}
		out = append(out, v.findings...)
	}
	if !general.stopped {
		l.cache.put(prefix, general, len(prefix)+verdictSize(general, 0))
	}
	return append(out, general.findings...), nil
}

// applyPolicy returns a verdict for each manifest, and one for what is wrong with the policies themselves.
func (l *Loader) applyPolicy(ctx context.Context, archive func(evalRequest) ([]byte, error), req evalRequest, rules []File, todo []*Manifest) (found []*verdict, general *verdict, err error) {
	body, err := archive(req)
	if err != nil {
		return nil, nil, err
	}
	found, general = make([]*verdict, len(todo)), &verdict{}
	at := make([]*Fields, len(todo))
	for i := range found {
		found[i] = &verdict{}
	}
	current := req.Policies[0]
	err = l.cfg.Evaluator.Evaluate(ctx, body, func(line []byte) error {
		var a evalAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		switch {
		case a.Start != "":
			current = a.Start
		case a.Finding != nil:
			general.findings = append(general.findings, *a.Finding)
		case a.Violation != nil && a.Violation.Index >= 0 && a.Violation.Index < len(todo):
			i := a.Violation.Index
			if at[i] == nil {
				f := todo[i].Fields()
				at[i] = &f
			}
			found[i].report(at[i].Of(a.Violation.Path), "%s (policy %s)", violation(todo[i].Key.Resource, a.Violation), a.Violation.Rule)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errBroken) && ctx.Err() == nil {
		general.report(Position{firstFile(rules, current), 1, 1}, "%v", err)
		general.stopped = true
		err = nil
	}
	return found, general, err
}
