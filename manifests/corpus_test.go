package manifests

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests print into testdata")

// TestMain lets the test binary be the child that evaluates CUE, as the real program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "cue-eval" {
		os.Exit(EvalMain(os.Stdin, os.Stdout))
	}
	if len(os.Args) == 2 && os.Args[1] == "escape" {
		escapeMain()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newLoader(t testing.TB) *Loader {
	t.Helper()
	child, err := NewChild()
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLoader(Config{Evaluator: child})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCorpus loads each tree of testdata/corpus and compares what comes out with the section "want" of its archive: findings,
// or objects where there is no finding. Run with -rewrite after a wanted change and review the difference.
func TestCorpus(t *testing.T) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	loader := newLoader(t)
	for _, file := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tree, want, at := Files{}, []byte(nil), -1
			for i, f := range a.Files {
				if f.Name == "want" {
					want, at = f.Data, i
				} else {
					tree[f.Name] = f.Data
				}
			}
			res, err := loader.Load(context.Background(), tree)
			if err != nil {
				t.Fatal(err)
			}
			got := transcript(res)
			if shown := secretValues.FindAll(got, -1); strings.HasPrefix(filepath.Base(file), "secret") && len(shown) > 0 {
				t.Errorf("values of Secrets are shown: %q in\n%s", shown, got)
			}
			// A second load answers from the cache and must say the same.
			again, err := loader.Load(context.Background(), tree)
			if err != nil || !bytes.Equal(transcript(again), got) {
				t.Errorf("the second load says otherwise (err %v):\n%s", err, transcript(again))
			}
			if *rewrite {
				if at < 0 {
					a.Files = append(a.Files, txtar.File{Name: "want"})
					at = len(a.Files) - 1
				}
				a.Files[at].Data = got
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// secretValues are those of the archives whose names begin with "secret", also in base64.
var secretValues = regexp.MustCompile(`TOPSECRET\w*|VE9QU0VDUkVU|geheim|Z2VoZWlt|4711`)

func transcript(r *Result) []byte {
	var b bytes.Buffer
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	if len(r.Findings) == 0 {
		for _, m := range r.Manifests {
			fmt.Fprintf(&b, "%s %s\n", m.Position, m.Key)
		}
	}
	return b.Bytes()
}

// corpusObjects loads the manifests of some archives of the corpus.
func corpusObjects(t *testing.T, names ...string) []*Manifest {
	t.Helper()
	var out []*Manifest
	for _, name := range names {
		a, err := txtar.ParseFile("testdata/corpus/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		tree := Files{}
		for _, f := range a.Files {
			if f.Name != "want" {
				tree[f.Name] = f.Data
			}
		}
		res, err := newLoader(t).Load(context.Background(), tree)
		if err != nil || len(res.Findings) > 0 {
			t.Fatalf("%v, err %v", res, err)
		}
		out = append(out, res.Manifests...)
	}
	return out
}
