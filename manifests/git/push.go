package git

import (
	"context"
	"io"
)

// Command is one wanted change of a ref. A zero Old creates, a zero New deletes.
type Command struct {
	Ref      string
	Old, New Hash
}

// Push is what a client asks for, after the protocol's own checks: every hash is the one the ref has now, nothing rewinds, and
// all objects are there and well formed.
type Push struct {
	Commands []Command
	// Options are the push options as the client sent them ("allow-delete=20").
	Options []string
	// Pack is the pack as it came; it may be thin (deltas against objects of the repository). It is nil if it held no object.
	Pack []byte
	// Objects are the repository's objects with the pack's on top.
	Objects *Quarantine
}

// Receiver decides about pushes.
type Receiver interface {
	// Receive accepts all commands of the push, or none and returns why: the error's first line becomes the reason behind each
	// ref, and should be short. What is written to remote is shown to the user behind "remote: ", line by line, as it comes.
	// Receive blocks until the push is committed or refused.
	Receive(ctx context.Context, push *Push, remote io.Writer) error
}

// Limits bound what one push may hold. Zero fields take the defaults of DefaultLimits.
type Limits struct {
	// PackBytes bounds the pack as sent, ObjectBytes one object and TotalBytes all of a push's objects, unpacked.
	PackBytes, ObjectBytes, TotalBytes int64
	// Objects bounds the number of objects in a push, Files the files of a commit's tree.
	Objects, Files int
	// PathBytes bounds a path's length, Depth the number of its folders.
	PathBytes, Depth int
	// Commands bounds the refs that one push may change.
	Commands int
}

// DefaultLimits are generous for manifests and far from what harms a server.
func DefaultLimits() Limits {
	return Limits{PackBytes: 64 << 20, ObjectBytes: 8 << 20, TotalBytes: 512 << 20, Objects: 500_000, Files: 200_000, PathBytes: 1024, Depth: 64, Commands: 64}
}
