package runtime

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// embedded holds the helper and the shim when they were built before this binary (`make helper`), and always a placeholder, so
// that a clean clone builds.
//
//go:embed all:embedded
var embedded embed.FS

// programs writes the helper and the shim to dir, named by their content, and returns their paths. Files that are there already
// are used, so that a second agent, or a second start, writes nothing.
func programs(dir string) (helper, shim string, err error) {
	if helper, err = program(dir, "helper"); err != nil {
		return "", "", err
	}
	if shim, err = program(dir, "shim"); err != nil {
		return "", "", err
	}
	return helper, shim, nil
}

func program(dir, name string) (string, error) {
	b, err := embedded.ReadFile("embedded/" + name)
	if errors.Is(err, os.ErrNotExist) {
		return "", ErrNoHelper
	}
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	short := "rt"
	if name == "shim" {
		short = "shim"
	}
	path := filepath.Join(dir, short+"-"+hex.EncodeToString(sum[:8]))
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(b)) && st.Mode().Perm() == 0o700 {
		return path, nil
	}
	f, err := os.CreateTemp(dir, ".program-")
	if err != nil {
		return "", fmt.Errorf("write the runtime helper: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o700), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("write the runtime helper: %w", err)
	}
	return path, nil
}

// Embedded tells whether this binary holds the runtime helper.
func Embedded() bool {
	_, err := embedded.Open("embedded/helper")
	return err == nil
}
