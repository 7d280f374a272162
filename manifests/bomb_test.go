package manifests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// billion is the YAML of a billion laughs: each alias stands for nine of the one before.
func billion() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\na0: &a0 [lol]\n")
	for i := 1; i <= 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	return b.String()
}

// TestBombsYAML refuses documents of a few bytes that ask for much, within a bound that is far from what they ask for.
func TestBombsYAML(t *testing.T) {
	l := newLoader(t)
	for _, tc := range []struct{ name, file, content, want string }{
		{"aliases", "x.yaml", billion(), "too large"},
		{"nesting", "x.yaml", "apiVersion: v1\nkind: ConfigMap\ndata: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "too large"},
		{"flow depth", "x.yaml", strings.Repeat("[", 1<<20), "YAML"},
		{"maps", "x.yaml", strings.Repeat("{a: ", 200) + strings.Repeat("}", 200), "too large"},
		{"size", "x.yaml", "a: " + strings.Repeat("x", maxFile), "are refused"},
		{"merge loop", "x.yaml", "a: &a\n  <<: *a\n", "stands inside"},
		{"json nesting", "x.json", strings.Repeat("[", 5000), "too large"},
		{"json number", "x.json", `{"a": 1` + strings.Repeat("0", 500) + "}", "too large a number"},
		{"many documents", "x.yaml", strings.Repeat("---\na: b\n", 100_000), "and 99000 more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := l.Load(t.Context(), Files{tc.file: []byte(tc.content)})
			if err != nil {
				t.Fatal(err)
			}
			if all := fmt.Sprint(res.Findings); !strings.Contains(all, tc.want) {
				t.Errorf("findings %.300s, want %q", all, tc.want)
			}
		})
	}
}

// TestBombsCUE kills what does not end, and the other packages of the tree get their verdict all the same.
func TestBombsCUE(t *testing.T) {
	child := &Child{Command: []string{os.Args[0], "cue-eval"}, Deadline: 3 * time.Second}
	l, err := NewLoader(Config{Evaluator: child})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, content, want string }{
		{"disjunctions", disjunctions(), "it was stopped"},
		{"range", "import \"list\"\nx: list.Range(0, 1e8, 1)\n", "it was stopped"},
		{"comprehension", "import \"list\"\n_r: list.Range(0, 1000, 1)\nx: [for a in _r for b in _r for c in _r {a+b+c}]\n", "it was stopped"},
		{"laughs", laughs(), "it was stopped"},
		{"repeat", "import \"strings\"\nx: strings.Repeat(\"x\", 1e12)\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			res, err := l.Load(t.Context(), Files{
				"a/bomb.cue": []byte("package a\n" + tc.content),
				"z/fine.cue": []byte("package z\nx: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\"}\n"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Findings) == 0 || !strings.HasPrefix(res.Findings[0].File, "a/") || !strings.Contains(res.Findings[0].Message, tc.want) {
				t.Errorf("findings %.500v, want %q in folder a", res.Findings, tc.want)
			}
			if len(res.Manifests) != 1 {
				t.Errorf("%d manifests, want that of folder z", len(res.Manifests))
			}
			t.Logf("%v: %.200v", time.Since(start).Round(time.Millisecond), res.Findings)
		})
	}
}

func disjunctions() string {
	var b strings.Builder
	b.WriteString("#D: {")
	for i := range 24 {
		fmt.Fprintf(&b, "{a%d: 1} | {a%d: 2}\n} & {", i, i)
	}
	b.WriteString("}\ny: #D & {a0: int}\nobj: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\", data: y}\n")
	return b.String()
}

func laughs() string {
	var b strings.Builder
	b.WriteString("_a0: [\"lol\"]\n")
	for i := 1; i <= 12; i++ {
		fmt.Fprintf(&b, "_a%d: [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("_a%d,", i-1), 9), ","))
	}
	b.WriteString("x: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\", data: _a12}\n")
	return b.String()
}

// TestEvaluationIsConfined shows that a pushed tree reads nothing but itself.
func TestEvaluationIsConfined(t *testing.T) {
	l := newLoader(t)
	for _, tc := range []struct {
		name string
		tree Files
	}{
		{"embed", Files{"a/x.cue": []byte("@extern(embed)\npackage a\nx: _ @embed(file=\"/etc/passwd\", type=text)\n")}},
		{"embed above", Files{"a/x.cue": []byte("@extern(embed)\npackage a\nx: _ @embed(file=\"../../../../etc/passwd\", type=text)\n")}},
		{"local module", Files{
			"cue.mod/module.cue":       []byte("module: \"example.com/a@v0\"\nlanguage: version: \"v0.17.0\"\ndeps: \"example.com/b@v0\": v: \"v0.0.1\"\n"),
			"cue.mod/local-module.cue": []byte("deps: \"example.com/b@v0\": replaceWith: \"../../../etc\"\n"),
			"a/x.cue":                  []byte("package a\nimport \"example.com/b\"\nx: b.y\n")}},
		{"registry", Files{"a/x.cue": []byte("package a\nimport \"cue.dev/x/k8s.io/api/apps/v1\"\nx: v1.#Deployment\n")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := l.Load(t.Context(), tc.tree)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Findings) == 0 {
				t.Fatal("no finding: something outside the tree was read")
			}
			if strings.Contains(fmt.Sprint(res.Findings), "root:x:") {
				t.Errorf("a file's content came out: %v", res.Findings)
			}
			t.Log(res.Findings)
		})
	}
}
