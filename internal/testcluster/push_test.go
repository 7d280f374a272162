package testcluster_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/gitops"
	"reconcile/internal/testcluster"
	"reconcile/manifests"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/raftstore/disk"
)

// syncCount counts what each server's store makes durable, by the folder of its files.
type syncCount struct {
	mu   sync.Mutex
	list []string
}

func (s *syncCount) note(op disk.Op, path string) error {
	if op == disk.OpDatasync || op == disk.OpSyncDir {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.list = append(s.list, fmt.Sprint(op, " ", path))
	}
	return nil
}

// take returns what was noted since the last call, of one server.
func (s *syncCount) take(server string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []string
	for _, line := range s.list {
		if strings.Contains(line, string(filepath.Separator)+server+string(filepath.Separator)) {
			out = append(out, line)
		} else {
			rest = append(rest, line)
		}
	}
	s.list = rest
	return out
}

// TestAPushCostsOneSyncAServer pushes a commit through the door of git and counts the fsyncs until it is committed on all servers: refs, pack,
// ledger, objects and what the controllers make of them are one entry, and an entry is one fsync of the log.
func TestAPushCostsOneSyncAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := &syncCount{}
		c := testcluster.Start(t, testcluster.Config{Disk: true, Change: func(cfg *raftstore.Config) {
			cfg.FS = disk.Hook{FS: disk.OS{}, Before: count.note}
		}})
		c.Must(testcluster.Create(testcluster.Namespace("shop")))
		loader, err := manifests.NewLoader(manifests.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := c.Leader()
		door, err := gitops.New(gitops.Config{Cluster: "sim", Store: repository{s}, State: objects{s}, Writer: s.Seq(), Loader: loader, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			still(t, c)
			for i := range 3 {
				count.take(c.Server(i).ID)
			}
			before := c.Leader().View().Rev()
			var files []gitops.File
			for k := range 10 {
				files = append(files, gitops.File{Path: fmt.Sprintf("web%d.yaml", k), Data: []byte(fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web%d, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web%d}}
  template:
    metadata: {labels: {app: web%d}}
    spec: {containers: [{name: web, image: "web:%d"}]}
`, k, k, k, i))})
			}
			done, err := door.Apply(t.Context(), "sim", gitops.PlanRequest{Message: fmt.Sprint("push ", i), Files: files})
			if err != nil || done.Refused != "" || len(done.Findings) > 0 {
				t.Fatalf("push %d: %v, %s %v", i, err, done.Refused, done.Findings)
			}
			rev := c.Leader().View().Rev()
			for k := range 3 {
				server := c.Server(k)
				if err := server.Store().WaitRev(t.Context(), rev); err != nil {
					t.Fatal(err)
				}
				if list := count.take(server.ID); len(list) != 1 || !strings.HasPrefix(list[0], string(disk.OpDatasync)) {
					t.Errorf("push %d of 10 Deployments (revisions %d to %d) cost server %s %d fsyncs: %s", i, before+1, rev, server.ID, len(list), strings.Join(list, ", "))
				}
			}
			if _, ok := c.Leader().View().Get(object.Key{Resource: "deployments", Namespace: "shop", Name: "web9"}); !ok {
				t.Error("the push is not there")
			}
		}
	})
}
