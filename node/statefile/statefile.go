// Package statefile keeps small files of state that must survive the death of this process at any moment, not that of the machine.
//
// It owns nothing but the rule: ext4 flushes the data of a file that is renamed over another one, which costs milliseconds
// a write; here the old file is removed first, and a reader that finds none takes the complete new one beside it. How data passes
// through: bytes to PATH.new, then PATH; back from whichever is there.
package statefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Write replaces a file. Two writers of one path must not run at once.
func Write(path string, b []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next+".part", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next+".part", next); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(next, path)
}

// Read returns what was written last. The error is os.ErrNotExist when nothing was.
func Read(path string) ([]byte, error) {
	// A complete new file is newer than the old one.
	b, err := os.ReadFile(path + ".new")
	if errors.Is(err, os.ErrNotExist) {
		b, err = os.ReadFile(path)
	}
	if errors.Is(err, os.ErrNotExist) { // renamed between the two
		b, err = os.ReadFile(path)
	}
	return b, err
}

// WriteJSON writes v as JSON.
func WriteJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(path, b)
}

// ReadJSON reads into v.
func ReadJSON(path string, v any) error {
	b, err := Read(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
