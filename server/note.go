package server

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"reconcile/pki"
)

// noteName is the file that says which server of which cluster a data directory belongs to. It lies beside the store, which may be emptied or
// lie on a disk that was not mounted: without it such a server would take itself for the first of a new cluster, whose keys all clients trust.
const noteName = "server.json"

// note is what the file says.
type note struct {
	dir string
	// ClusterID is known before the cluster is made, ServerID once the server was opened.
	ClusterID string `json:"clusterID"`
	ServerID  string `json:"serverID,omitempty"`
	// keys tells that the directory holds an authority and no server was ever opened with it: it was copied there, to join its cluster.
	keys bool
}

// openNote reads the file. For a directory that holds nothing yet it chooses the ID of a new cluster and notes it before anything else is made, so
// that a first start which is killed can be repeated; unless the server is to join another.
func openNote(dir string, join bool) (*note, error) {
	m := &note{dir: dir}
	b, err := os.ReadFile(m.path())
	switch {
	case err == nil:
		err := json.Unmarshal(b, m)
		if err == nil && m.ClusterID == "" {
			err = errors.New("it has no clusterID")
		}
		if err != nil {
			return nil, fmt.Errorf("%s does not say which server this is: %w; if %s is whole, remove the file and start again", m.path(), err, filepath.Join(dir, "store"))
		}
		return m, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read which server this is: %w", err)
	}
	_, err = os.Lstat(filepath.Join(dir, "pki", "ca.crt"))
	if m.keys = err == nil; m.keys || join {
		return m, nil
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	m.ClusterID = hex.EncodeToString(id[:])
	return m, m.save()
}

func (m *note) path() string { return filepath.Join(m.dir, noteName) }

func (m *note) save() error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write which server this is: %w", err)
	}
	if err := os.MkdirAll(m.dir, 0o711); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return pki.WriteFile(m.path(), append(b, '\n'))
}

// newCluster is the ID of the cluster of which this server, whose store is empty, is to be the first; an error if it was a server before, or was
// meant to join.
func (m *note) newCluster() (string, error) {
	store := filepath.Join(m.dir, "store")
	switch {
	case m.ServerID != "":
		return "", fmt.Errorf("%s is empty, but this machine was server %s of cluster %s (%s): was the folder emptied, or its disk not mounted? "+
			"To bring the server back, start it with --join HOST:PORT of another server of the cluster: it comes back under a new ID. "+
			"If there is no other, put back a backup of %s. To give the cluster up and begin anew: reconcile reset --data-dir %s --yes",
			store, m.ServerID, m.ClusterID, m.path(), m.dir, m.dir)
	case m.keys:
		return "", fmt.Errorf("%s holds the keys of a cluster, and %s no server: to join that cluster, say --join HOST:PORT of one of its servers; "+
			"to begin a new cluster, remove the keys first, for its clients would take the one for the other", filepath.Join(m.dir, "pki"), store)
	}
	return m.ClusterID, nil
}

// is notes which server was opened. It is an error if another was opened before, and this one has not just joined: the store of another machine was
// put there, and two servers of one ID would each vote.
func (m *note) is(clusterID, serverID string, joined bool) error {
	if m.ClusterID == clusterID && m.ServerID == serverID {
		return nil
	}
	if m.ServerID != "" && !joined {
		return fmt.Errorf("%s belongs to server %s of cluster %s, and this machine was server %s of cluster %s (%s): put its own store back, "+
			"or empty the folder and start it with --join HOST:PORT of another server; if the whole of %s was moved here from another machine, move %s with it",
			filepath.Join(m.dir, "store"), serverID, clusterID, m.ServerID, m.ClusterID, m.path(), m.dir, noteName)
	}
	m.ClusterID, m.ServerID = clusterID, serverID
	return m.save()
}
