package manifests

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	"cuelang.org/go/mod/modconfig"
	"cuelang.org/go/mod/modfile"
	"cuelang.org/go/mod/module"

	"reconcile/schema"
)

// objectsPerContext bounds what one CUE context sees: a context keeps all that it was ever given.
const objectsPerContext = 100

// moduleFile is used for trees without a cue.mod/module.cue.
const moduleFile = "module: \"cluster.local/manifests@v0\"\nlanguage: version: \"v0.17.0\"\n"

// EvalMain is the child process in which users' CUE is evaluated: it bounds itself, reads a request from in and writes the
// answers to out. It returns the process's exit code. There is no way to stop an evaluation from within, so whoever starts the
// child kills it when its time is over.
func EvalMain(in io.Reader, out io.Writer) int {
	if err := confine(); err != nil {
		return failEval(out, err)
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return failEval(out, err)
	}
	e, err := newEval(body, out)
	if err != nil {
		return failEval(out, err)
	}
	e.run()
	return 0
}

func failEval(out io.Writer, err error) int {
	// Nothing can be done if even this cannot be written: the parent sees an answer without its end.
	_ = json.NewEncoder(out).Encode(evalAnswer{Finding: &Finding{Position{"cue.mod/module.cue", 1, 1}, "evaluate CUE: " + err.Error()}})
	return 1
}

// eval is one request in the child.
type eval struct {
	tree fs.FS
	req  evalRequest
	out  *json.Encoder
	seen map[Finding]bool
	// dir is the folder of the package that is evaluated.
	dir string
	// secretive tells that values may be those of Secrets.
	secretive bool
}

func newEval(body []byte, out io.Writer) (*eval, error) {
	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	raw, err := fs.ReadFile(archive, requestName)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	e := &eval{tree: archive, out: json.NewEncoder(out), seen: map[Finding]bool{}, secretive: secretive(archive)}
	if err := json.Unmarshal(raw, &e.req); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return e, nil
}

// send writes a line. An error is that of a parent that has gone, and ends the child at its next write.
func (e *eval) send(a evalAnswer) { _ = e.out.Encode(a) }

func (e *eval) run() {
	for _, dir := range e.req.Packages {
		e.send(evalAnswer{Start: dir})
		ctx := cuecontext.New()
		for _, inst := range e.instances(dir) {
			e.pkg(ctx, inst)
		}
	}
	for _, dir := range e.req.Policies {
		e.send(evalAnswer{Start: dir})
		for i := 0; i == 0 || i < len(e.req.Objects); i += objectsPerContext {
			ctx := cuecontext.New()
			for _, inst := range e.instances(dir) {
				e.policy(ctx, inst, i)
			}
		}
	}
	e.send(evalAnswer{Done: true})
}

// instances loads the packages of one folder. Files without a package clause are a package each.
func (e *eval) instances(dir string) []*build.Instance {
	entries, err := fs.ReadDir(e.tree, dir)
	if err != nil {
		e.report(errors.Newf(token.NoPos, "%v", err), Position{dir, 1, 1})
		return nil
	}
	var args []string
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if entry.IsDir() || path.Ext(name) != ".cue" {
			continue
		}
		content, err := fs.ReadFile(e.tree, name)
		if err != nil {
			e.report(errors.Newf(token.NoPos, "%v", err), Position{name, 1, 1})
			continue
		}
		f, err := parser.ParseFile(name, content, parser.PackageClauseOnly)
		if err != nil {
			e.report(err, Position{name, 1, 1})
			continue
		}
		arg := "./" + name
		if p := f.PackageName(); p != "" {
			arg = "./" + dir + ":" + p
		}
		if !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	var out []*build.Instance
	for _, arg := range args {
		out = append(out, load.Instances([]string{arg}, &load.Config{FS: e.tree, Dir: "/", Registry: noRegistry{}, Env: []string{"CUE_REGISTRY=none"}})...)
	}
	return out
}

// noRegistry refuses modules from elsewhere: nothing is fetched because somebody pushed.
type noRegistry struct{}

var _ modconfig.Registry = noRegistry{}

func (noRegistry) refuse(m string) error {
	return fmt.Errorf("module %s: modules from elsewhere are not fetched; copy the package into the repository", m)
}

// ModFile implements modconfig.Registry.
func (r noRegistry) ModFile(_ context.Context, m module.Version) (*modfile.File, error) {
	return nil, r.refuse(m.String())
}

// Fetch implements modconfig.Registry.
func (r noRegistry) Fetch(_ context.Context, m module.Version) (module.SourceLoc, error) {
	return module.SourceLoc{}, r.refuse(m.String())
}

// ModuleVersions implements modconfig.Registry.
func (r noRegistry) ModuleVersions(_ context.Context, m string) ([]string, error) {
	return nil, nil
}

// pkg finds the objects of one package.
func (e *eval) pkg(ctx *cue.Context, inst *build.Instance) {
	start := startOf(inst)
	e.dir = path.Dir(start.File)
	if inst.Err != nil {
		e.report(inst.Err, start)
		return
	}
	v := ctx.BuildInstance(inst)
	if err := v.Validate(); err != nil {
		e.report(err, start)
	}
	if v.IncompleteKind() != cue.BottomKind {
		e.find(v, positionOf(v, start))
		return
	}
	// One mistake makes the whole package an error; its fields can be looked at all the same.
	for _, label := range labelsOf(inst) {
		if f := v.LookupPath(cue.MakePath(label)); f.Exists() {
			e.find(f, e.home(f, start))
		}
	}
}

// labelsOf lists the regular fields that a package's files declare at the top.
func labelsOf(inst *build.Instance) []cue.Selector {
	var out []cue.Selector
	seen := map[string]bool{}
	for _, file := range inst.Files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name, isIdent, err := ast.LabelName(f.Label)
			if err != nil || seen[name] || isIdent && (strings.HasPrefix(name, "_") || strings.HasPrefix(name, "#")) {
				continue
			}
			seen[name] = true
			out = append(out, cue.Str(name))
		}
	}
	return out
}

// find sends every concrete struct that has apiVersion and kind, wherever it stands in the package.
func (e *eval) find(v cue.Value, around Position) {
	v, _ = v.Default()
	switch v.IncompleteKind() {
	case cue.StructKind:
		if isText(v, "apiVersion") && isText(v, "kind") {
			if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
				e.report(err, around)
				return
			}
			e.send(evalAnswer{Object: encodeObject(e.node(v, around))})
			return
		}
		it, err := v.Fields()
		for err == nil && it.Next() {
			e.find(it.Value(), e.home(it.Value(), around))
		}
	case cue.ListKind:
		it, err := v.List()
		for err == nil && it.Next() {
			e.find(it.Value(), e.home(it.Value(), around))
		}
	}
}

// home is where a value stands in the package's own files: an object made from a template elsewhere stands where it is made.
func (e *eval) home(v cue.Value, around Position) Position {
	if pos := positionOf(v, around); path.Dir(pos.File) == e.dir {
		return pos
	}
	return around
}

func isText(v cue.Value, field string) bool {
	f := v.LookupPath(cue.ParsePath(field))
	f, _ = f.Default()
	return f.Kind() == cue.StringKind
}

// node turns a concrete value into a node.
func (e *eval) node(v cue.Value, at Position) *node {
	v, _ = v.Default()
	n := &node{pos: at}
	switch v.Kind() {
	case cue.StructKind:
		n.shape = mapping
		it, err := v.Fields()
		for err == nil && it.Next() {
			pos := positionOf(it.Value(), at)
			n.keys = append(n.keys, key{it.Selector().Unquoted(), labelOf(it.Value(), pos)})
			n.items = append(n.items, e.node(it.Value(), pos))
		}
	case cue.ListKind:
		n.shape = sequence
		it, err := v.List()
		for err == nil && it.Next() {
			n.items = append(n.items, e.node(it.Value(), positionOf(it.Value(), at)))
		}
	case cue.BytesKind:
		b, err := v.Bytes()
		if err == nil {
			n.set(base64.StdEncoding.EncodeToString(b))
		}
	default:
		e.scalar(v, n)
	}
	return n
}

func (e *eval) scalar(v cue.Value, n *node) {
	switch v.Kind() {
	case cue.BoolKind:
		if b, err := v.Bool(); err == nil {
			n.set(b)
		}
	case cue.StringKind:
		if s, err := v.String(); err == nil {
			n.set(s)
		}
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		if i, err := v.Int64(); err == nil {
			n.set(i)
		} else if f, err := v.Float64(); err == nil {
			n.set(f)
		} else {
			e.report(errors.Newf(v.Pos(), "the number is too large"), n.pos)
		}
	}
	n.source = fmt.Sprint(n.value)
}

// policy holds the objects from number first on against one package of constraints.
func (e *eval) policy(ctx *cue.Context, inst *build.Instance, first int) {
	start := startOf(inst)
	if inst.Err != nil {
		e.report(inst.Err, start)
		return
	}
	rules := ctx.BuildInstance(inst)
	if err := rules.Validate(); err != nil {
		e.report(err, start)
		return
	}
	if !constrains(inst) {
		e.report(errors.Newf(token.NoPos, "this policy constrains nothing: it holds only definitions; write constraints at the top level, "+
			"such as `kind: string` and `if kind == \"Deployment\" {spec: replicas: <=10}`"), start)
		return
	}
	for i := first; i < len(e.req.Objects) && i < first+objectsPerContext; i++ {
		o := ctx.CompileBytes(e.req.Objects[i], cue.Filename(objectName))
		seen := map[evalViolation]bool{}
		for _, err := range violations(rules.Unify(o)) {
			v := evalViolation{Index: i, Path: schema.PathOf(err.Path()), Message: message(err), Rule: ruleOf(err, start)}
			if !seen[v] {
				seen[v] = true
				e.send(evalAnswer{Violation: &v})
			}
		}
	}
}

// violations are all errors of a value, some of them twice. CUE itself keeps a missing field to itself while anything else in
// the value is wrong, so what is below is asked on its own too.
func violations(v cue.Value) []errors.Error {
	out := errors.Errors(v.Validate(cue.Concrete(true)))
	if len(out) == 0 {
		return nil
	}
	if list, err := v.List(); err == nil {
		for list.Next() {
			out = append(out, violations(list.Value())...)
		}
	} else if fields, err := v.Fields(); err == nil {
		for fields.Next() {
			out = append(out, violations(fields.Value())...)
		}
	}
	return out
}

// constrains tells whether a package says anything about an object, which is unified with the package itself: definitions, hidden
// fields and names bound by let do so only through something else at the top level.
func constrains(inst *build.Instance) bool {
	for _, f := range inst.Files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.Package, *ast.ImportDecl, *ast.LetClause, *ast.CommentGroup, *ast.Attribute:
			case *ast.Field:
				if name, ok := d.Label.(*ast.Ident); !ok || !strings.HasPrefix(name.Name, "#") && !strings.HasPrefix(name.Name, "_") {
					return true
				}
			default:
				return true
			}
		}
	}
	return false
}

// objectName is the file name under which an object's JSON is compiled for a policy.
const objectName = ".object.json"

// ruleOf finds the constraint's position among those of an error.
func ruleOf(err errors.Error, start Position) Position {
	for _, p := range errors.Positions(err) {
		if pos, ok := position(p); ok && pos.File != objectName {
			return pos
		}
	}
	return start
}

// report sends each of CUE's errors once, at its first position in a file of the tree.
func (e *eval) report(err error, around Position) {
	for _, each := range errors.Errors(err) {
		pos := around
		for _, p := range errors.Positions(each) {
			if at, ok := position(p); ok {
				pos = at
				break
			}
		}
		msg := e.words(each)
		p := schema.PathOf(each.Path())
		if p != "" && !strings.Contains(p, "/") {
			msg = p + ": " + msg
		}
		f := Finding{pos, msg}
		if !e.seen[f] {
			e.seen[f] = true
			e.send(evalAnswer{Finding: &f})
		}
	}
}

// message is an error's own words with those of its causes, without its path.
func message(err errors.Error) string {
	msg := strings.TrimPrefix(err.Error(), strings.Join(err.Path(), ".")+": ")
	first, _, _ := strings.Cut(msg, "\n")
	return strings.TrimSuffix(placeInside.ReplaceAllString(first, ""), ":")
}

// placeInside is a position in the middle of a message, which is printed in front already.
var placeInside = regexp.MustCompile(`/?[^ ]+\.cue:\d+:\d+: `)

func startOf(inst *build.Instance) Position {
	for _, f := range inst.BuildFiles {
		return Position{strings.TrimPrefix(f.Filename, "/"), 1, 1}
	}
	return Position{strings.TrimPrefix(inst.Dir, "/"), 1, 1}
}

// position turns CUE's position into ours.
func position(p token.Pos) (Position, bool) {
	if !p.IsValid() || p.Filename() == "" || p.Line() == 0 {
		return Position{}, false
	}
	return Position{strings.TrimPrefix(strings.TrimPrefix(p.Filename(), "/"), "./"), p.Line(), p.Column()}, true
}

// positionOf is where a value stands, or that of what is around it.
func positionOf(v cue.Value, around Position) Position {
	if pos, ok := position(v.Pos()); ok {
		return pos
	}
	return around
}

// labelOf is where a field's name stands, if the value's source is a field; else where its value stands.
func labelOf(v cue.Value, around Position) Position {
	if f, ok := v.Source().(*ast.Field); ok {
		if pos, ok := position(f.Label.Pos()); ok {
			return pos
		}
	}
	return around
}
