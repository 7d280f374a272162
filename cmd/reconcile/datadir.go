package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reconcile/agent"
)

// lockName is the file that the process which uses a data directory holds locked.
const lockName = "lock"

// encryptionKeyName is the file with the key that wraps the store's data keys, unless another place was chosen for it.
const encryptionKeyName = "encryption.key"

// ownNames are all names that we make in a data directory. Nothing else is ever removed from one.
var ownNames = []string{"store", "pki", "node", "server.json", kubeconfigName, clusterFileName, lockName, encryptionKeyName}

// checkUsable fails if a folder holds other things than a data directory does, so that a mistyped path does not become one. A new folder, an
// empty one, and one into which a cluster's keys were copied may become one; logs and what a file system puts there are no hindrance.
func checkUsable(dir string) error {
	foreign, err := foreignNames(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	keys := exists(filepath.Join(dir, "pki", "ca.crt")) && exists(filepath.Join(dir, "pki", "ca.key"))
	if len(foreign) == 0 || keys || isDataDir(dir) {
		return nil
	}
	return fmt.Errorf("%s holds other things (%s) and no data of reconcile: choose a folder of its own with --data-dir%s", dir, someOf(foreign), nested(dir))
}

// isDataDir tells whether a process of ours has used a folder as its data directory. An agent's store of images alone makes one too.
func isDataDir(dir string) bool {
	if exists(filepath.Join(agent.NodeDir(dir), "images")) {
		return true
	}
	if info, err := os.Lstat(filepath.Join(dir, lockName)); err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
		return false
	}
	foreign, err := foreignNames(dir)
	return err == nil && len(foreign) == 0 || exists(filepath.Join(dir, "store")) || exists(filepath.Join(dir, "pki", "ca.crt")) || exists(agent.NodeDir(dir))
}

// foreignNames lists what a folder holds that we do not make, logs and lost+found left out.
func foreignNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		if !slices.Contains(ownNames, n) && n != "lost+found" && (e.IsDir() || !strings.HasSuffix(n, ".log")) {
			out = append(out, n)
		}
	}
	return out, nil
}

// someOf names the first few of many.
func someOf(names []string) string {
	const shown = 3
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// nested says which folder in a folder is a data directory, if one is: most likely that was meant.
func nested(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if sub := filepath.Join(dir, e.Name()); e.IsDir() && isDataDir(sub) {
			return fmt.Sprintf("; did you mean --data-dir %s?", sub)
		}
	}
	return ""
}

// lockDataDir makes the data directory and keeps other processes out of it until the returned function is called.
func lockDataDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another reconcile process uses %s; stop it first, or choose another --data-dir", dir)
	}
	return func() { f.Close() }, nil
}

// removeDataDir removes what we make in a data directory, and the folder itself if that was all. It returns what it left there. The lock goes
// last: until then a second process is told to wait, and a reset that failed can be repeated.
func removeDataDir(dir string) (left []string, err error) {
	for _, n := range ownNames {
		if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
			return nil, fmt.Errorf("remove %s: %w", filepath.Join(dir, n), err)
		}
	}
	// A mount point stays, emptied; it cannot be removed itself.
	err = os.Remove(dir)
	if err == nil || errors.Is(err, unix.EBUSY) {
		return nil, nil
	}
	entries, readErr := os.ReadDir(dir)
	if readErr != nil || len(entries) == 0 {
		return nil, fmt.Errorf("remove %s: %w", dir, err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	return left, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
