package commitgen_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"reconcile/internal/commitgen"
	"reconcile/manifests"
	"reconcile/manifests/git"
)

// tree is a commit's files as manifests reads them.
type tree map[string]string

// Files implements manifests.Tree.
func (t tree) Files() ([]manifests.File, error) {
	var out []manifests.File
	for _, path := range slices.Sorted(maps.Keys(t)) {
		out = append(out, manifests.File{Path: path, Hash: git.BlobHash([]byte(t[path])).String()})
	}
	return out, nil
}

// Read implements manifests.Tree.
func (t tree) Read(f manifests.File) ([]byte, error) { return []byte(t[f.Path]), nil }

func Example() {
	repo := commitgen.New(rand.New(rand.NewPCG(1, 2)))
	for range 3 {
		c := repo.Next()
		fmt.Println(c.Message, slices.Sorted(maps.Keys(c.Files)))
	}
	// Output:
	// add app1, add app2, app2: image v2 [always.yaml app1-secret.json app1.yaml app2-config.yaml app2-secret.json app2.yaml]
	// scale app2 to 4 [always.yaml app1-secret.json app1.yaml app2-config.yaml app2-secret.json app2.yaml]
	// move app2 to team, app2: port 8001, add app3 [always.yaml app1-secret.json app1.yaml app3-secret.json app3.yaml team/app2-config.yaml team/app2-secret.json team/app2.yaml]
}

// TestValid loads the trees of many commits: each must be free of findings, and they must not all be alike.
func TestValid(t *testing.T) {
	loader, err := manifests.NewLoader(manifests.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		repo := commitgen.New(rand.New(rand.NewPCG(seed, 0)))
		seen := map[string]bool{}
		for range 60 {
			c := repo.Next()
			res, err := loader.Load(context.Background(), tree(c.Files))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range res.Findings {
				t.Errorf("seed %d, %s: %s", seed, c.Message, f)
			}
			seen[fmt.Sprint(c.Files)] = true
		}
		if len(seen) < 40 {
			t.Errorf("seed %d: only %d of 60 trees differ", seed, len(seen))
		}
	}
}
