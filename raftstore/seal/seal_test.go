package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reconcile/raftstore/disk"
)

func open(t *testing.T, dir string, source Source, create bool) *Ring {
	t.Helper()
	r, err := Open(disk.OS{}, filepath.Join(dir, "keys.json"), source, create)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRing(t *testing.T) {
	dir := t.TempDir()
	source := File(filepath.Join(dir, "outer.key"))
	r := open(t, dir, source, true)
	one := r.Seal(nil, []byte("one"), []byte("here"))
	if len(one) != 3+Overhead || bytes.Contains(one, []byte("one")) {
		t.Errorf("sealed %x", one)
	}
	// One nonce used twice under one key would give away what two texts differ in.
	if again := r.Seal(nil, []byte("one"), []byte("here")); bytes.Equal(again[4:4+24], one[4:4+24]) || bytes.Equal(again, one) {
		t.Errorf("the same sealed twice is the same: %x", again)
	}
	if id, err := r.Rotate(7); err != nil || id != 2 {
		t.Fatalf("rotate: %d, %v", id, err)
	}
	two := r.Seal(nil, []byte("two"), []byte("here"))
	r = open(t, dir, source, false)
	for sealed, want := range map[string]string{string(one): "one", string(two): "two"} {
		if got, err := r.Open([]byte(sealed), []byte("here")); err != nil || string(got) != want {
			t.Errorf("opened %q, %v", got, err)
		}
		if _, err := r.Open([]byte(sealed), []byte("there")); !errors.Is(err, ErrDamaged) {
			t.Errorf("opened at another place: %v", err)
		}
		for i := range sealed {
			bad := []byte(sealed)
			bad[i] ^= 1
			if _, err := r.Open(bad, []byte("here")); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d changed: %v", i, err)
			}
		}
	}
	// Another process rotates; the first one sees it and goes on reading what it had.
	other := open(t, dir, source, false)
	if _, err := other.Rotate(9); err != nil {
		t.Fatal(err)
	}
	if changed, err := r.Reload(); err != nil || !changed || r.Active() != 3 {
		t.Errorf("reload: %v, %v, key %d", changed, err, r.Active())
	}
	if err := r.Retire(func(k Key) bool { return k.Until <= 7 }); err != nil {
		t.Fatal(err)
	}
	if keys := fmt.Sprint(len(r.Keys()), r.Keys()[0].ID, r.Keys()[0].Until); keys != "2 2 9" {
		t.Errorf("keys %s", keys)
	}
	if _, err := r.Open(one, []byte("here")); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a key that was retired: %v", err)
	}
}

func TestOuterKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outer.key")
	r := open(t, dir, File(path), true)
	sealed := r.Seal(nil, []byte("x"), nil)
	wants := func(source Source, words ...string) {
		t.Helper()
		_, err := Open(disk.OS{}, filepath.Join(dir, "keys.json"), source, false)
		for _, w := range words {
			if err == nil || !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), w) {
				t.Errorf("error %v, want one with %q", err, w)
			}
		}
	}
	wants(File(path+"x"), path+"x", "is missing", "--key-file")
	other := filepath.Join(dir, "other.key")
	if _, err := File(other).Key(true); err != nil {
		t.Fatal(err)
	}
	wants(File(other), "fingerprint", other)
	wants(Command("echo no key"), "not a key")
	wants(Command("echo oh >&2; exit 3"), "oh")
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	wants(File(other), "chmod 600")
	// The same key by a command; then another outer key altogether.
	r = open(t, dir, Command("cat "+path), false)
	if got, err := r.Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("opened %q, %v", got, err)
	}
	moved := File(filepath.Join(dir, "moved.key"))
	if err := r.Rewrap(moved); err != nil {
		t.Fatal(err)
	}
	wants(File(path), "fingerprint")
	if got, err := open(t, dir, moved, false).Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("opened %q, %v", got, err)
	}
}

// Every flipped bit of the ring's file is found.
func TestDamagedRing(t *testing.T) {
	dir := t.TempDir()
	source := File(filepath.Join(dir, "outer.key"))
	open(t, dir, source, true)
	path := filepath.Join(dir, "keys.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := decode(bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	if _, err := Open(disk.OS{}, path+"x", source, false); !errors.Is(err, ErrDamaged) {
		t.Errorf("a missing ring: %v", err)
	}
}
