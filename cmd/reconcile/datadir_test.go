package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fill makes files, whose folders come with them; a name that ends in a slash is an empty folder.
func fill(t *testing.T, dir string, names ...string) string {
	t.Helper()
	for _, n := range names {
		p := filepath.Join(dir, n)
		if strings.HasSuffix(n, "/") {
			p = filepath.Join(p, "x")
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(n, "/") {
			continue
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDataDirs: which folders may become a data directory, and which ones reset takes for one.
func TestDataDirs(t *testing.T) {
	for _, tc := range []struct {
		name             string
		holds            []string
		usable, resetted bool
	}{
		{"empty", nil, true, false},
		{"a log", []string{"up.log", "lost+found/"}, true, false},
		{"a cluster's keys", []string{"pki/ca.crt", "pki/ca.key"}, true, false},
		{"images before the first up", []string{"node/images/blobs/"}, true, true},
		{"used", []string{"lock", "store/", "pki/ca.crt", "pki/ca.key", "node/", "admin.kubeconfig", "cluster.json"}, true, true},
		{"used, with other things", []string{"lock", "store/", "pki/ca.crt", "example/web"}, true, true},
		{"stopped at the first step", []string{"lock"}, true, true},
		{"a project", []string{"main.go", "go.mod"}, false, false},
		{"a project with a store", []string{"main.go", "store/x.go", "node/y.go"}, false, false},
		{"a project with a lock", []string{"main.go", "lock"}, false, false},
		{"another authority", []string{"pki/ca.crt", "pki/private/ca.key", "vars"}, false, false},
		{"the folder above one", []string{"run/lock", "run/store/", "notes"}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := fill(t, t.TempDir(), tc.holds...)
			if err := checkUsable(dir); (err == nil) != tc.usable {
				t.Errorf("usable: %v, want %v", err, tc.usable)
			}
			if got := isDataDir(dir); got != tc.resetted {
				t.Errorf("a data directory: %v, want %v", got, tc.resetted)
			}
		})
	}
	if err := checkUsable(filepath.Join(t.TempDir(), "new")); err != nil {
		t.Error(err)
	}
	above := fill(t, t.TempDir(), "run/lock", "run/store/", "notes")
	if err := checkUsable(above); err == nil || !strings.Contains(err.Error(), "did you mean --data-dir "+filepath.Join(above, "run")) {
		t.Errorf("the folder above a data directory: %v", err)
	}
}

// TestRemoveDataDir removes what is ours and no more.
func TestRemoveDataDir(t *testing.T) {
	dir := fill(t, filepath.Join(t.TempDir(), "d"), "lock", "store/a", "pki/ca.crt", "node/x", "cluster.json", "admin.kubeconfig", "encryption.key", "notes/mine", "up.log")
	left, err := removeDataDir(dir)
	if err != nil || !slices.Equal(left, []string{"notes", "up.log"}) {
		t.Errorf("left %v, err %v", left, err)
	}
	if !exists(filepath.Join(dir, "notes", "mine")) || exists(filepath.Join(dir, "store")) || exists(filepath.Join(dir, "lock")) {
		t.Error("it removed what is not ours, or left what is")
	}
	dir = fill(t, filepath.Join(t.TempDir(), "d"), "lock", "store/a")
	if left, err := removeDataDir(dir); err != nil || left != nil || exists(dir) {
		t.Errorf("left %v, err %v, the folder is there: %v", left, err, exists(dir))
	}
}
