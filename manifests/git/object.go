package git

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Hash is an object's SHA-1.
type Hash = plumbing.Hash

// ParseHash reads 40 hex digits.
func ParseHash(s string) (Hash, bool) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, false
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, false
	}
	return h, true
}

// BlobHash is the hash that git gives to a file's content.
func BlobHash(content []byte) Hash { return plumbing.ComputeHash(plumbing.BlobObject, content) }

// Object is one git object, unpacked. It is immutable and shared.
type Object struct {
	kind plumbing.ObjectType
	hash Hash
	data []byte
}

func newObject(kind plumbing.ObjectType, data []byte) *Object {
	return &Object{kind: kind, hash: plumbing.ComputeHash(kind, data), data: data}
}

// Hash implements plumbing.EncodedObject.
func (o *Object) Hash() Hash { return o.hash }

// Type implements plumbing.EncodedObject.
func (o *Object) Type() plumbing.ObjectType { return o.kind }

// SetType implements plumbing.EncodedObject; an Object does not change.
func (o *Object) SetType(plumbing.ObjectType) {}

// Size implements plumbing.EncodedObject.
func (o *Object) Size() int64 { return int64(len(o.data)) }

// SetSize implements plumbing.EncodedObject; an Object does not change.
func (o *Object) SetSize(int64) {}

// Reader implements plumbing.EncodedObject.
func (o *Object) Reader() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(o.data)), nil }

// Writer implements plumbing.EncodedObject; an Object does not change.
func (o *Object) Writer() (io.WriteCloser, error) { return nil, errReadOnly }

// Bytes returns the content, which is not to be changed.
func (o *Object) Bytes() []byte { return o.data }

var errReadOnly = errors.New("git objects are read-only")

// Commit is what is read of a commit object.
type Commit struct {
	Hash    Hash
	Tree    Hash
	Parents []Hash
	// Author is NAME <EMAIL>; Message is the whole message.
	Author  string
	Message string
	// When is the committer's time.
	When time.Time
}

// Subject is the message's first line.
func (c Commit) Subject() string {
	first, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return first
}

// parseCommit reads a commit object's content.
func parseCommit(o *Object) (Commit, error) {
	c := Commit{Hash: o.hash}
	bad := func(what string) (Commit, error) {
		return Commit{}, fmt.Errorf("commit %s: %s", o.hash, what)
	}
	head, message, ok := bytes.Cut(o.data, []byte("\n\n"))
	if !ok {
		head = bytes.TrimSuffix(o.data, []byte("\n"))
	}
	c.Message = string(message)
	for i, line := range strings.Split(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case i == 0:
			if key != "tree" {
				return bad("it does not begin with a tree")
			}
			if c.Tree, ok = ParseHash(value); !ok {
				return bad("its tree is not a hash")
			}
		case key == "parent" && c.Author == "":
			p, ok := ParseHash(value)
			if !ok {
				return bad("a parent is not a hash")
			}
			c.Parents = append(c.Parents, p)
		case key == "author" && c.Author == "":
			c.Author = value
			if i := strings.LastIndexByte(value, '>'); i >= 0 {
				c.Author = value[:i+1]
			}
		case key == "committer" && c.When.IsZero():
			c.When = timeOf(value)
		}
	}
	if c.Author == "" {
		return bad("it has no author")
	}
	return c, nil
}

// timeOf reads the seconds behind NAME <EMAIL>; what cannot be read is 1970.
func timeOf(who string) time.Time {
	fields := strings.Fields(who[strings.LastIndexByte(who, '>')+1:])
	if len(fields) == 0 {
		return time.Unix(0, 0)
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return time.Unix(0, 0)
	}
	return time.Unix(n, 0)
}

// Entry is one row of a tree.
type Entry struct {
	Mode uint32
	Name string
	Hash Hash
}

// The modes of tree entries.
const (
	modeDir     = 0o40000
	modeSymlink = 0o120000
	modeGitlink = 0o160000
	modeType    = 0o170000
	modeRegular = 0o100000
)

// IsDir tells whether the entry is a folder.
func (e Entry) IsDir() bool { return e.Mode == modeDir }

// parseTree reads a tree object's content.
func parseTree(o *Object) ([]Entry, error) {
	var out []Entry
	rest := o.data
	for len(rest) > 0 {
		space := bytes.IndexByte(rest, ' ')
		nul := bytes.IndexByte(rest, 0)
		if space <= 0 || space > 6 || nul < space+2 || len(rest) < nul+1+len(Hash{}) {
			return nil, fmt.Errorf("tree %s: entry %d is malformed", o.hash, len(out)+1)
		}
		e := Entry{Name: string(rest[space+1 : nul])}
		for _, d := range rest[:space] {
			if d < '0' || d > '7' {
				return nil, fmt.Errorf("tree %s: entry %d has a malformed mode", o.hash, len(out)+1)
			}
			e.Mode = e.Mode<<3 | uint32(d-'0')
		}
		copy(e.Hash[:], rest[nul+1:])
		rest = rest[nul+1+len(e.Hash):]
		out = append(out, e)
	}
	return out, nil
}

// parseTag reads what an annotated tag points to.
func parseTag(o *Object) (Hash, error) {
	first, _, _ := strings.Cut(string(o.data), "\n")
	value, ok := strings.CutPrefix(first, "object ")
	if !ok {
		return Hash{}, fmt.Errorf("tag %s: it does not begin with an object", o.hash)
	}
	h, ok := ParseHash(value)
	if !ok {
		return Hash{}, fmt.Errorf("tag %s: its object is not a hash", o.hash)
	}
	return h, nil
}
