package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Module is the module's name, with which its own import paths begin.
const Module = "reconcile"

// room is what a top-level folder may import of ours, and why.
type room struct {
	imports []string
	why     string
}

// everything is what cmd may import.
const everything = "*"

// rooms is the map of ARCHITECTURE.md. A name ending in "/..." stands for a folder and all below it.
var rooms = map[string]room{
	"cmd/reconcile": {[]string{everything}, "the command line sees all pieces and has no logic of its own"},
	"server": {[]string{"admission", "api/...", "authz", "cluster", "controller", "etcdapi", "explain", "gitops", "internal/diskspace", "internal/gcpace", "internal/loop", "manifests/...", "object", "pki", "plan", "proxy/model", "raftstore/...", "scheduler", "schema", "sequencer"},
		"server wires one control-plane member; a machine's side (agent, client, node, proxy, dns) is wired by agent"},
	"agent":      {[]string{"client", "dns", "node/...", "object", "pki", "proxy/...", "internal/loop"}, "agent wires one machine and must live without the control plane's packages"},
	"gitops":     {[]string{"admission", "authz", "cluster", "manifests/...", "object", "plan", "schema", "sequencer", "internal/loop"}, "gitops is every commit's one way, and knows no HTTP and no raft"},
	"api":        {[]string{"admission", "authz", "cluster", "explain", "gitops", "object", "pki", "plan", "schema", "sequencer"}, "api speaks HTTP; storage and raft are behind cluster and sequencer"},
	"etcdapi":    {[]string{"authz", "cluster", "object", "raftstore", "sequencer"}, "etcdapi is a facade over the same store and writer"},
	"client":     {[]string{"object", "pki"}, "client runs on machines that have no server"},
	"pki":        {nil, "pki is a leaf"},
	"admission":  {[]string{"object", "schema"}, "admission is pure and is given what it needs"},
	"authz":      {[]string{"object", "schema"}, "authz is pure and is given what it needs"},
	"manifests":  {[]string{"admission", "object", "schema", "internal/loop"}, "manifests serves `validate` without a cluster"},
	"schema":     {[]string{"object"}, "schema is text and its compilation"},
	"plan":       {[]string{"admission", "controller", "object", "proxy/model", "scheduler"}, "the plan runs the same pure functions as the commit"},
	"explain":    {[]string{"scheduler"}, "answers are the scheduler's, put into words"},
	"controller": {[]string{"scheduler", "object"}, "controllers see only the View they declare"},
	"scheduler":  {[]string{"object"}, "the scheduler is a function of a snapshot"},
	"sequencer":  {[]string{"admission", "cluster", "controller", "internal/fp", "internal/mutant", "object", "plan", "raftstore", "scheduler"}, "the sequencer is the one writer"},
	"cluster":    {[]string{"raftstore", "object"}, "cluster is the typed face of the store"},
	"raftstore":  {[]string{"internal/fp", "internal/mutant"}, "raftstore knows no kind: it is tested as a library"},
	"node":       {[]string{"object", "internal/diskspace", "internal/loop"}, "an agent takes objects from a Source, so that it is tested without raft"},
	"proxy":      {[]string{"object", "internal/loop"}, "a proxy takes objects from a Source"},
	"dns":        {[]string{"object", "internal/loop"}, "dns takes objects from a Source"},
	"object":     {nil, "object is a leaf"},

	"internal/gcpace":          {nil, "the collector knows no room"},
	"internal/diskspace":       {nil, "a disk is full whoever asks"},
	"internal/loop":            {nil, "the generic loop knows no kind"},
	"internal/archtest":        {nil, "the rules know no code"},
	"internal/needs":           {nil, "a switch knows no test"},
	"internal/loopback":        {nil, "an address knows no server"},
	"internal/commitgen":       {nil, "what it writes is judged by the code under test alone"},
	"internal/testcluster":     {[]string{everything}, "a harness"},
	"internal/vmtest":          {[]string{everything}, "a harness"},
	"proxy/proxytest":          {[]string{everything}, "a harness"},
	"api/apitest":              {[]string{everything}, "a harness"},
	"node/runtime/runtimetest": {[]string{everything}, "a harness"},
	"internal/netnstest":       {[]string{everything}, "a harness"},
	"internal/faulttest":       {[]string{everything}, "a harness"},
	"internal/mutants":         {nil, "the gate runs the tests and knows no code"},
	"internal/fp":              {nil, "a failpoint is a name"},
	"internal/mutant":          {[]string{"internal/fp"}, "a known bug is a constant"},
	"e2e":                      {[]string{everything}, "tests of the whole"},
	"bench":                    {[]string{everything}, "measurements of the whole"},
	"examples":                 {nil, "an example is a user's program"},
}

// pure are the rooms that take time and chance as arguments.
var pure = []string{"plan", "explain", "controller", "scheduler", "admission", "authz", "proxy/model"}

// impure are the imports that a pure room must not have.
var impure = []string{"net", "net/http", "os", "os/exec", "math/rand", "math/rand/v2", "crypto/rand", "syscall", "golang.org/x/sys/unix", "io/ioutil", "os/signal", "github.com/hashicorp/raft",
	"k8s.io/apimachinery/pkg/util/rand", "k8s.io/apimachinery/pkg/util/uuid", "github.com/google/uuid"}

// pureFiles are files of impure rooms that must be pure: every member must apply an entry alike, and a difference is a function.
var pureFiles = []string{"raftstore/state.go", "raftstore/fsm.go", "raftstore/entry.go", "node/decide.go", "node/network/diff.go"}

// Violation is one broken rule at one place.
type Violation struct {
	Where string
	What  string
	Why   string
}

// String is the violation as the test prints it.
func (v Violation) String() string { return v.Where + ": " + v.What + ": " + v.Why }

// Check reads every Go file under root (of tests it judges the sleeps only) and returns all violations, ordered by place. It blocks on reading files.
func Check(root string) ([]Violation, error) {
	c := checker{root: root, fset: token.NewFileSet(), docs: map[string]bool{}, seen: map[string]string{}}
	if err := filepath.WalkDir(root, c.visit); err != nil {
		return nil, fmt.Errorf("read the tree under %s: %w", root, err)
	}
	for pkg, where := range c.seen {
		if !c.docs[pkg] {
			c.report(where, "package "+pkg+" has no comment", "a reader must learn what it is for, what it owns and what it may not know")
		}
	}
	sort.Slice(c.found, func(i, j int) bool { return c.found[i].String() < c.found[j].String() })
	return c.found, nil
}

type checker struct {
	root  string
	fset  *token.FileSet
	found []Violation
	docs  map[string]bool
	seen  map[string]string
}

func (c *checker) report(where, what, why string) {
	c.found = append(c.found, Violation{Where: where, What: what, Why: why})
}

func (c *checker) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.root, path)
	if err != nil {
		return err
	}
	if d.IsDir() {
		if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "run" || d.Name() == "vendor" || rel == filepath.Join("bench", "peer")) {
			return filepath.SkipDir
		}
		return nil
	}
	if !strings.HasSuffix(rel, ".go") {
		return nil
	}
	f, err := parser.ParseFile(c.fset, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	c.file(filepath.ToSlash(rel), f)
	return nil
}

func (c *checker) file(rel string, f *ast.File) {
	pkg := "."
	if i := strings.LastIndex(rel, "/"); i >= 0 {
		pkg = rel[:i]
	}
	if _, ok := c.seen[pkg]; !ok && !isTest(rel) {
		c.seen[pkg] = rel
	}
	if f.Doc != nil && !isTest(rel) {
		c.docs[pkg] = true
	}
	home, ok := roomOf(pkg)
	if !ok && isTest(rel) {
		return
	}
	if !ok {
		c.report(rel, "package "+pkg+" has no room", "every package stands in a room of ARCHITECTURE.md; add it to the map or move the code")
		return
	}
	if isTest(rel) {
		c.noSleep(rel, f)
		return
	}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		c.imports(rel, pkg, home, path)
	}
	if isPure(pkg) || slices.Contains(pureFiles, rel) {
		c.purity(rel, f)
	}
	if f.Name.Name != "main" && !slices.Contains(rooms[home].imports, everything) {
		c.noPrint(rel, f)
	}
	c.noInit(rel, f)
}

func (c *checker) imports(rel, pkg, home, path string) {
	if strings.HasPrefix(path, "k8s.io/kubernetes/") && home != "admission" {
		c.report(rel, "imports "+path, "admission is the one importer of k8s.io/kubernetes")
	}
	if isPure(pkg) && slices.Contains(impure, path) {
		c.report(rel, "imports "+path, pkg+" is pure: time, chance and I/O are arguments")
	}
	ours, ok := strings.CutPrefix(path, Module+"/")
	if !ok {
		return
	}
	target, ok := roomOf(ours)
	if !ok {
		return
	}
	switch {
	case strings.HasPrefix(pkg, ours+"/") && !isHelper(pkg):
		c.report(rel, pkg+" imports "+ours, "packages of one room import each other downwards")
	case isHelper(ours) && !isHelper(pkg) && !slices.Contains(rooms[home].imports, everything):
		c.report(rel, pkg+" imports "+ours, "what helps tests is no part of the program")
	}
	r := rooms[home]
	if target == home || allowed(r.imports, ours, target) {
		return
	}
	c.report(rel, home+" imports "+ours, r.why)
}

// isTest tells whether a file is a test's.
func isTest(rel string) bool { return strings.HasSuffix(rel, "_test.go") }

// isHelper tells whether a package is there for tests: its name says so.
func isHelper(pkg string) bool {
	name := pkg[strings.LastIndex(pkg, "/")+1:]
	return strings.HasSuffix(name, "test") || strings.HasSuffix(name, "fake") || name == "testcluster" || name == "memview"
}

// noPrint looks for words on the program's output, which belongs to the command line: the rest tells its log or its caller.
func (c *checker) noPrint(rel string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			id, ok := s.X.(*ast.Ident)
			if ok && (id.Name == "os" && s.Sel.Name == "Stdout" || id.Name == "fmt" && slices.Contains([]string{"Print", "Printf", "Println"}, s.Sel.Name)) {
				c.report(rel+":"+strconv.Itoa(c.fset.Position(n.Pos()).Line), "uses "+id.Name+"."+s.Sel.Name, "only cmd writes to the standard output")
			}
		}
		return true
	})
}

// noSleep looks for tests that sleep and hope. A sleep in a loop is the pause of one who waits for a condition, and under synctest
// the clock is not real.
func (c *checker) noSleep(rel string, f *ast.File) {
	for _, spec := range f.Imports {
		if spec.Path.Value == `"testing/synctest"` || spec.Path.Value == `"`+Module+`/internal/testcluster"` {
			return
		}
	}
	if strings.HasPrefix(rel, "internal/testcluster/") {
		return
	}
	var loops []ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			loops = append(loops, n)
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || s.Sel.Name != "Sleep" {
				return true
			}
			if id, ok := s.X.(*ast.Ident); !ok || id.Name != "time" {
				return true
			}
			inLoop := slices.ContainsFunc(loops, func(l ast.Node) bool {
				_, counted := l.(*ast.RangeStmt)
				return !counted && l.Pos() <= n.Pos() && n.End() <= l.End()
			})
			if !inLoop {
				c.report(rel+":"+strconv.Itoa(c.fset.Position(n.Pos()).Line), "sleeps", "a test waits for a condition with a deadline: on a slow machine a sleep is too short, on others it is too long")
			}
		}
		return true
	})
}

// purity looks for calls of the clock and for goroutines.
func (c *checker) purity(rel string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			c.report(c.fset.Position(n.Pos()).String(), "starts a goroutine", "a pure function has none: "+rel)
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && id.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, n.Sel.Name) {
				c.report(rel+":"+strconv.Itoa(c.fset.Position(n.Pos()).Line), "calls time."+n.Sel.Name, "in pure code time is an argument")
			}
			if id, ok := n.X.(*ast.Ident); ok && id.Name == "metav1" && (n.Sel.Name == "Now" || n.Sel.Name == "NowMicro") {
				c.report(rel+":"+strconv.Itoa(c.fset.Position(n.Pos()).Line), "calls metav1."+n.Sel.Name, "in pure code time is an argument")
			}
		}
		return true
	})
}

func (c *checker) noInit(rel string, f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Recv == nil && fn.Name.Name == "init" {
			c.report(rel, "has an init()", "what a program does starts in main, in an order that can be read")
		}
	}
}

// roomOf finds the room a package stands in: the longest name in the map that the package's path begins with.
func roomOf(pkg string) (string, bool) {
	best := ""
	for name := range rooms {
		if (pkg == name || strings.HasPrefix(pkg, name+"/")) && len(name) > len(best) {
			best = name
		}
	}
	return best, best != ""
}

func allowed(list []string, ours, target string) bool {
	for _, a := range list {
		if a == everything {
			return true
		}
		if folder, ok := strings.CutSuffix(a, "/..."); ok && (ours == folder || strings.HasPrefix(ours, folder+"/")) {
			return true
		}
		if a == ours || (a == target && ours == target) {
			return true
		}
	}
	return false
}

func isPure(pkg string) bool {
	return slices.ContainsFunc(pure, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") })
}
