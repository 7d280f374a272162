package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"reconcile/raftstore/disk"
)

// KeySize is the length of every key in bytes.
const KeySize = chacha20poly1305.KeySize

// Source is where the outer key is kept, which wraps the data keys.
type Source interface {
	// Key returns the outer key. With create, a source that can keep one makes it if it has none. It may block on a command.
	Key(create bool) ([]byte, error)
	// String names the source in errors.
	String() string
}

// File is a Source: a file that holds one line, the key in base64. It must not be readable by others than its owner.
type File string

// String implements Source.
func (f File) String() string { return "the key file " + string(f) }

// Key implements Source.
func (f File) Key(create bool) ([]byte, error) {
	st, err := os.Stat(string(f))
	if errors.Is(err, fs.ErrNotExist) && create {
		return f.make()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: put it back from your copy of it, or name another with --key-file; without it the data of this server cannot be read", f)
	}
	if err != nil {
		return nil, err
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so that others may read it: chmod 600 it", f, mode)
	}
	b, err := os.ReadFile(string(f))
	if err != nil {
		return nil, err
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f, err)
	}
	return key, nil
}

func (f File) make() ([]byte, error) {
	key := NewKey()
	if err := (disk.OS{}).MkdirAll(filepath.Dir(string(f))); err != nil {
		return nil, fmt.Errorf("make %s: %w", f, err)
	}
	if err := disk.WriteFile(disk.OS{}, string(f), append([]byte(base64.StdEncoding.EncodeToString(key)), '\n')); err != nil {
		return nil, fmt.Errorf("make %s: %w", f, err)
	}
	return key, nil
}

// Command is a Source: a shell command that prints the key in base64 or hex, for one that is kept by another program or machine.
type Command string

// commandTimeout bounds how long the command may take.
const commandTimeout = 30 * time.Second

// String implements Source.
func (c Command) String() string { return fmt.Sprintf("the key command %q", string(c)) }

// Key implements Source.
func (c Command) Key(bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", string(c))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", c, err, strings.TrimSpace(stderr.String()))
	}
	key, err := parseKey(out)
	if err != nil {
		return nil, fmt.Errorf("%s: what it prints: %w", c, err)
	}
	return key, nil
}

func parseKey(b []byte) ([]byte, error) {
	text := strings.TrimSpace(string(b))
	for _, decode := range []func(string) ([]byte, error){base64.StdEncoding.DecodeString, hex.DecodeString} {
		if key, err := decode(text); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("it is not a key: want %d bytes in base64 or hex (openssl rand -base64 %d makes one)", KeySize, KeySize)
}

// NewKey returns a random key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// fingerprint names a key without telling it.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("reconcile key fingerprint\x00"), key...))
	return hex.EncodeToString(sum[:8])
}
