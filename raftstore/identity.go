package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"sync"

	"reconcile/raftstore/disk"
)

// Identity is the side file of a member: who it is, and how far its log and its votes once reached. bbolt falls back to an older
// transaction when its newest meta page is damaged, and takes an emptied file for a new store; a log that was cut is a shorter log. Each
// could make a member vote twice or forget what it acknowledged. The file tells.
type Identity struct {
	ClusterID string `json:"clusterID"`
	ServerID  string `json:"serverID"`
	// Folder is a random name that the folder's other files carry, so that those of another folder are noticed. Empty before format 2.
	Folder string `json:"folder,omitempty"`
	// Log is the kind of the log in the folder, one of the Log constants. Empty (before format 2): boltdb.
	Log string `json:"log,omitempty"`
	// Encrypted tells that entries, snapshots and blobs are, by the keys of the folder's ring.
	Encrypted bool `json:"encrypted,omitempty"`
	// Term is the greatest current term that was made durable, LogTerm and Index the greatest last entry.
	Term    uint64 `json:"term"`
	LogTerm uint64 `json:"logTerm"`
	Index   uint64 `json:"index"`
	// Votes counts the durable writes of term and vote.
	Votes uint64 `json:"votes,omitempty"`
	// Checksum is the CRC-32C of the file's bytes with an empty one here.
	Checksum string `json:"checksum,omitempty"`
}

// position is a place in the log. Of two, the one with the greater term is further, whatever the index (as raft compares logs).
type position struct{ term, index uint64 }

func (p position) before(o position) bool {
	return p.term < o.term || (p.term == o.term && p.index < o.index)
}

func (id Identity) end() position { return position{id.LogTerm, id.Index} }

// identityStore keeps an Identity durably.
type identityStore interface {
	load() (Identity, bool, error)
	save(Identity) error
}

type identityFile struct {
	fs   disk.FS
	path string
}

func (f identityFile) load() (Identity, bool, error) {
	b, err := disk.ReadFile(f.fs, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("read %s: %w", f.path, err)
	}
	id, err := decodeIdentity(b)
	if err != nil {
		return Identity{}, false, fmt.Errorf("%s: %w", f.path, damaged(err))
	}
	return id, true, nil
}

func (f identityFile) save(id Identity) error {
	b, err := encodeIdentity(id)
	if err != nil {
		return err
	}
	return disk.WriteFile(f.fs, f.path, b)
}

func encodeIdentity(id Identity) ([]byte, error) {
	id.Checksum = ""
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return nil, err
	}
	id.Checksum = fmt.Sprintf("crc32c:%08x", crc32.Checksum(b, castagnoli))
	b, err = json.MarshalIndent(id, "", "  ")
	return append(b, '\n'), err
}

// decodeIdentity takes only what encodeIdentity made, to the byte; before format 2 there was no checksum.
func decodeIdentity(b []byte) (Identity, error) {
	var id Identity
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&id); err != nil {
		return Identity{}, err
	}
	if id.Checksum == "" && id.Folder == "" && id.Log == "" && id.Votes == 0 {
		return id, nil
	}
	want, err := encodeIdentity(id)
	if err != nil {
		return Identity{}, err
	}
	if !bytes.Equal(want, b) {
		return Identity{}, errChecksum
	}
	return id, nil
}

type memoryIdentity struct {
	mu  sync.Mutex
	id  Identity
	set bool
}

func (m *memoryIdentity) load() (Identity, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.set, nil
}

func (m *memoryIdentity) save(id Identity) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.set = id, true
	return nil
}

// reached compares how far the log and the votes reach with how far they once did. marked is the mark's position.
func (id Identity) reached(term, votes uint64, end, marked position) error {
	switch {
	case term < id.Term:
		return fmt.Errorf("%s: its vote is of term %d, but it has voted in term %d", stableName, term, id.Term)
	case votes < id.Votes:
		return fmt.Errorf("%s: it holds the vote before the last one", stableName)
	}
	if marked.before(id.end()) {
		marked = id.end()
	}
	if end.before(marked) {
		return fmt.Errorf("its log ends at entry %d of term %d, but it has held entry %d of term %d", end.index, end.term, marked.index, marked.term)
	}
	return nil
}
