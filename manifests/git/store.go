package git

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// The keys of the repository in the store.
const (
	// RefPrefix is what the keys of refs begin with: /git/refs/heads/main holds the 40 hex digits of a commit.
	RefPrefix = "/git/"
	// PackPrefix is what the keys of packs begin with; 20 decimal digits follow, counting from 1 without gaps. The value is the
	// pack itself (it begins with "PACK") or the digest of a blob that holds it.
	PackPrefix = "/git/packs/"
)

// RefKey is the store's key of a ref ("refs/heads/main").
func RefKey(ref string) string { return RefPrefix + ref }

// PackKey is the store's key of the pack with a number.
func PackKey(seq uint64) string { return fmt.Sprintf("%s%020d", PackPrefix, seq) }

// Store is where the cluster keeps the repository. A View is immutable and cheap to take.
type Store interface {
	// View returns the newest state that this server has.
	View() View
	// Blob returns a staged blob by its digest. It may block on a disk or on another server.
	Blob(ctx context.Context, digest string) ([]byte, error)
}

// View is the store's state at one revision. Values that it returns are shared and not to be changed.
type View interface {
	// Get returns the value of a key.
	Get(key string) ([]byte, bool)
	// Range yields the keys that begin with prefix, in order, with their values.
	Range(prefix string) iter.Seq2[string, []byte]
}

// refsOf reads all refs of a view.
func refsOf(v View) map[string]Hash {
	refs := map[string]Hash{}
	for key, value := range v.Range(RefPrefix + "refs/") {
		if h, ok := ParseHash(string(value)); ok {
			refs[strings.TrimPrefix(key, RefPrefix)] = h
		}
	}
	return refs
}
