package etcdapi_test

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// tool finds a program that scripts/etcd-tools.sh has built.
func tool(t *testing.T, name string) string {
	t.Helper()
	cache := os.Getenv("RECONCILE_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "reconcile")
	}
	found, err := filepath.Glob(filepath.Join(cache, "tools", "etcd-v3.7.3-*-"+runtime.Version(), name))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skipf("there is no %s of etcd in the cache folder: run scripts/etcd-tools.sh, as make test does", name)
	}
	return found[0]
}

// patient are etcdctl's flags for a busy machine: by itself it gives up after two seconds without a connection, and after five without an answer.
var patient = []string{"--dial-timeout", "30s", "--command-timeout", "60s"}

// TestEtcdctl runs etcd's own command line and its benchmark, unchanged.
func TestEtcdctl(t *testing.T) {
	t.Parallel()
	ctl, bench := tool(t, "etcdctl"), tool(t, "benchmark")
	b := newBare(t, 3, nil)
	var endpoints []string
	for _, p := range b.peers {
		endpoints = append(endpoints, p.Etcd)
	}
	run := func(input, program string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		of := endpoints
		if args[0] == "snapshot" { // it asks one member
			of = of[1:2]
		}
		flags := []string{"--endpoints", strings.Join(of, ",")}
		if program == ctl {
			flags = append(flags, patient...)
		}
		cmd := exec.CommandContext(ctx, program, append(flags, args...)...)
		cmd.Stdin = strings.NewReader(input)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s%s", strings.Join(args, " "), err, out, errs.String())
		}
		return string(out)
	}
	snap := filepath.Join(t.TempDir(), "snap.db")
	lease := regexp.MustCompile(`lease ([0-9a-f]+) granted`).FindStringSubmatch(run("", ctl, "lease", "grant", "60"))
	if lease == nil {
		t.Fatal("no lease was granted")
	}
	for _, tc := range []struct{ input, args, want string }{
		{"", "put a 1", "OK"},
		{"", "put a 2 --prev-kv", "1"},
		{"", "get a", "a\n2"},
		{"", "get a --rev 1", "a\n1"},
		{"", "put --lease=" + lease[1] + " b 1", "OK"},
		{"", "get --from-key a --keys-only", "b"},
		{"", "lease timetolive --keys " + lease[1], "attached keys([b])"},
		{"", "lease keep-alive --once " + lease[1], "keepalived with TTL(60)"},
		{"", "lease list", lease[1]},
		{"", "lease revoke " + lease[1], "revoked"},
		{"", "get b", ""},
		{"value(\"a\") = \"2\"\n\nput a 3\n\nput a 4\n\n", "txn", "SUCCESS"},
		{"", "lock l echo locked", "locked"},
		{"", "del a", "1"},
		{"", "compaction 3", "compacted revision 3"},
		{"", "member list", "started, m1, http://" + b.peers[0].Raft + ", http://" + b.peers[0].Etcd + ", false"},
		{"", "endpoint status -w fields", `"Version" : "3.7.3"`},
		{"", "endpoint health", b.peers[2].Etcd + " is healthy"},
		{"", "endpoint hashkv", b.peers[2].Etcd},
		{"", "endpoint hashkv --rev 4", b.peers[0].Etcd},
		{"", "alarm list", ""},
		{"", "alarm disarm", ""},
		{"", "defrag", "Finished defragmenting etcd member"},
		{"", "member list -w json", `"peerURLs"`},
		{"", "snapshot save " + snap, "Snapshot saved"},
		{"", "version", "API version: 3.7"},
	} {
		// "" is nothing at all: the key of the lease is gone, there is no alarm.
		if out := run(tc.input, ctl, strings.Fields(tc.args)...); !strings.Contains(out, tc.want) || tc.want == "" && out != "" {
			t.Errorf("etcdctl %s prints %q, not %q", tc.args, out, tc.want)
		}
	}
	to := b.follower()
	id := regexp.MustCompile(`([0-9a-f]+), started, ` + b.peers[to].ID).FindStringSubmatch(run("", ctl, "member", "list"))
	if id == nil {
		t.Fatal("the follower is not listed")
	}
	if out := run("", ctl, "move-leader", id[1]); !strings.Contains(out, "Leadership transferred") || b.leader() != to {
		t.Errorf("etcdctl move-leader prints %q, and member %d leads, not %d", out, b.leader(), to)
	}
	watched := follow(t, ctl, endpoints, "PUT\nw\n1\n", "watch", "w", "--rev", "4")
	run("", ctl, "put", "w", "1")
	watched()
	follow(t, ctl, endpoints, "me", "elect", "e", "me")()
	for _, args := range []string{"put --total 200", "txn-put --total 100 --txn-ops 4 --key-space-size 100", "range w --total 100", "lease-keepalive --total 100", "stm --total 50", "watch --streams 5 --watch-per-stream 2 --put-total 20"} {
		if out := run("", bench, append([]string{"--clients", "4", "--conns", "2"}, strings.Fields(args)...)...); !strings.Contains(out, "Requests/sec") {
			t.Errorf("benchmark %s prints %q", args, out)
		}
	}
}

// follow starts a command that does not end by itself; the returned function waits until it has printed want, and ends it.
func follow(t *testing.T, ctl string, endpoints []string, want string, args ...string) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, ctl, slices.Concat([]string{"--endpoints", strings.Join(endpoints, ",")}, patient, args)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		var have []byte
		for buf := make([]byte, 1024); !strings.Contains(string(have), want); {
			n, err := out.Read(buf)
			have = append(have, buf[:n]...)
			if err != nil {
				t.Errorf("etcdctl %s printed %q, not %q", strings.Join(args, " "), have, want)
				break
			}
		}
		cancel()
		_ = cmd.Wait() // it was killed
	}
}

// TestSnapshot: a snapshot is a database of etcd with its checksum behind it, and holds nothing of ours.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c := b.client()
	hide(t, b, "/git/secret")
	must(c.Put(t.Context(), "k", "value of k"))(t)
	r := must(c.Snapshot(t.Context()))(t)
	defer r.Close()
	body := must(io.ReadAll(r))(t)
	if len(body)%512 != sha256.Size {
		t.Fatalf("the snapshot has %d bytes: etcd wants whole pages and a checksum", len(body))
	}
	db, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	if have := sha256.Sum256(db); string(have[:]) != string(sum) {
		t.Error("the checksum is not that of the database")
	}
	if !strings.Contains(string(db), "value of k") || strings.Contains(string(db), "/git/secret") {
		t.Error("the database lacks a key, or holds one of ours")
	}
	if _, err := c.HashKV(t.Context(), b.peers[0].Etcd, 0); err != nil {
		t.Error(err)
	}
	if a := must(c.AlarmList(t.Context()))(t); len(a.Alarms) != 0 {
		t.Errorf("alarms: %v", a.Alarms)
	}
	if _, err := c.UserList(t.Context()); err == nil || !strings.Contains(err.Error(), "rights follow from the group") {
		t.Errorf("etcd's users: %v", err)
	}
	if _, err := c.MemberAdd(t.Context(), []string{"http://x:1"}); err == nil || !strings.Contains(err.Error(), "reconcile server --join") {
		t.Errorf("adding a member: %v", err)
	}
}
