package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Identity is the side file of a member: who it is, and how far its log once reached. bbolt falls back to an older transaction when
// its newest meta page is damaged, and takes an emptied file for a new store; either could make a member vote twice or forget
// what it acknowledged. The file tells.
type Identity struct {
	ClusterID string `json:"clusterID"`
	ServerID  string `json:"serverID"`
	// Term is the greatest current term that was made durable, LogTerm and Index the greatest last entry.
	Term    uint64 `json:"term"`
	LogTerm uint64 `json:"logTerm"`
	Index   uint64 `json:"index"`
}

// identityStore keeps an Identity durably.
type identityStore interface {
	load() (Identity, bool, error)
	save(Identity) error
}

type identityFile string

func (p identityFile) load() (Identity, bool, error) {
	b, err := os.ReadFile(string(p))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	var id Identity
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("read %s: %w", p, err)
	}
	return id, true, nil
}

func (p identityFile) save(id Identity) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(string(p), append(b, '\n'))
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

// reached compares how far the log reaches with how far it once did.
func (id Identity) reached(term, logTerm, index uint64) error {
	if term < id.Term {
		return fmt.Errorf("its vote is of term %d, but it has voted in term %d", term, id.Term)
	}
	if logTerm < id.LogTerm || (logTerm == id.LogTerm && index < id.Index) {
		return fmt.Errorf("its log ends at entry %d of term %d, but it has held entry %d of term %d", index, logTerm, id.Index, id.LogTerm)
	}
	return nil
}
