package server

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reconcile/internal/loopback"
)

func memberConfig(dir, addr, join string) Config {
	return Config{DataDir: dir, Listen: addr, Advertise: addr, Join: join, Name: "s", Version: "test", Log: slog.New(slog.DiscardHandler),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16")}
}

// opens opens a server and closes it; it returns who it was.
func opens(t *testing.T, cfg Config) (cluster, server string) {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	id := s.store.Identity()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return id.ClusterID, id.ServerID
}

func refused(t *testing.T, cfg Config, words ...string) {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err == nil {
		s.Close()
		t.Fatal("the server was opened")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// TestEmptiedStoreIsNoNewCluster empties the store of a server, whose command says no --join, as that of a cluster's first never does.
func TestEmptiedStoreIsNoNewCluster(t *testing.T) {
	dir, addr := t.TempDir(), loopback.Address()
	cfg := memberConfig(dir, addr, "")
	cluster, server := opens(t, cfg)
	if c, s := opens(t, cfg); c != cluster || s != server {
		t.Fatalf("server %s of %s is %s of %s after a restart", server, cluster, s, c)
	}
	store := filepath.Join(dir, "store")
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		refused(t, cfg, server, cluster, "--join", "reset --data-dir "+dir)
	}
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	if c, s := opens(t, cfg); c != cluster || s != server {
		t.Errorf("server %s of %s is %s of %s with its store put back", server, cluster, s, c)
	}
}

// TestStoreOfAnother puts the store of another server into a data directory.
func TestStoreOfAnother(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	addr := loopback.Address()
	_, first := opens(t, memberConfig(one, addr, ""))
	_, second := opens(t, memberConfig(two, addr, ""))
	if err := os.RemoveAll(filepath.Join(one, "store")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(two, "store"), filepath.Join(one, "store")); err != nil {
		t.Fatal(err)
	}
	refused(t, memberConfig(one, addr, ""), first, second, noteName)
}

// TestCopiedKeysAreNoNewCluster forgets --join on a machine to which the cluster's keys were copied.
func TestCopiedKeysAreNoNewCluster(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	addr := loopback.Address()
	opens(t, memberConfig(one, addr, ""))
	copyKeys(t, one, two)
	refused(t, memberConfig(two, addr, ""), "--join", "remove the keys")
	if _, err := os.Lstat(filepath.Join(two, noteName)); err == nil {
		t.Error("the refused server was noted")
	}
}

// TestFirstStartIsRepeated kills the first start of a cluster after its keys were made.
func TestFirstStartIsRepeated(t *testing.T) {
	dir := t.TempDir()
	m, err := openNote(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	opens(t, memberConfig(from, loopback.Address(), ""))
	copyKeys(t, from, dir)
	if c, _ := opens(t, memberConfig(dir, loopback.Address(), "")); c != m.ClusterID {
		t.Errorf("the cluster is %s, %s was noted", c, m.ClusterID)
	}
}

// TestDirectoryWithoutNote opens a data directory that was made before there was a note, and one whose note is no JSON.
func TestDirectoryWithoutNote(t *testing.T) {
	dir, addr := t.TempDir(), loopback.Address()
	cluster, server := opens(t, memberConfig(dir, addr, ""))
	path := filepath.Join(dir, noteName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c, s := opens(t, memberConfig(dir, addr, "")); c != cluster || s != server {
		t.Errorf("server %s of %s is %s of %s", server, cluster, s, c)
	}
	var m note
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &m) != nil || m.ServerID != server {
		t.Errorf("the note is %q, %v", b, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, memberConfig(dir, addr, ""), path, "remove the file")
}

// TestJoinIsAskedOnce starts a server of three again, with --join of one that does not answer any more.
func TestJoinIsAskedOnce(t *testing.T) {
	var dirs, addrs []string
	var all []running
	for i := range 3 {
		dirs, addrs = append(dirs, t.TempDir()), append(addrs, loopback.Address())
		join := ""
		if i > 0 {
			copyKeys(t, dirs[0], dirs[i])
			join = addrs[0]
		}
		all = append(all, start(t, dirs[i], addrs[i], join))
	}
	id := all[2].store.Identity()
	all[2].stop()
	all[0].stop()
	if again := start(t, dirs[2], addrs[2], addrs[0]).store.Identity(); again.ServerID != id.ServerID {
		t.Errorf("server %+v is %+v", id, again)
	}
}

// TestCopiedDirectory starts a server on a copy of another one's data directory, which a cluster of several must not let vote in its name.
func TestCopiedDirectory(t *testing.T) {
	dirs, addrs := []string{t.TempDir(), t.TempDir()}, []string{loopback.Address(), loopback.Address()}
	first := start(t, dirs[0], addrs[0], "")
	copyKeys(t, dirs[0], dirs[1])
	second := start(t, dirs[1], addrs[1], addrs[0])
	id, other := second.store.Identity().ServerID, loopback.Address()
	moved, err := json.Marshal(member{ID: id, Address: other})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.peers.post(t.Context(), addrs[0], pathJoin, moved); err == nil || !strings.Contains(err.Error(), "lives at "+addrs[1]) {
		t.Errorf("a living server's address was taken from it: %v", err)
	}
	second.stop()
	refused(t, memberConfig(dirs[1], other, ""), addrs[1], other, "--join")
}
