package etcdapi_test

import (
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"reconcile/internal/testcluster/member"
	"reconcile/raftstore/disk"
)

// tightDisk says that little is free while it is tight.
type tightDisk struct {
	disk.FS
	tight atomic.Bool
}

// Space implements disk.FS.
func (d *tightDisk) Space(dir string) (total, free uint64, err error) {
	if d.tight.Load() {
		return 100 << 30, 1 << 20, nil
	}
	return d.FS.Space(dir)
}

// TestAlarmsAreTheClusters: every member tells the alarms of all, for etcdctl asks one.
func TestAlarmsAreTheClusters(t *testing.T) {
	t.Parallel()
	full := &tightDisk{FS: disk.OS{}}
	b := newBare(t, 3, func(c *member.Config) {
		if c.ID == "m2" {
			c.Store.FS = full
		}
	})
	const of = 1 // m2
	var id uint64
	for _, m := range must(b.client().MemberList(t.Context()))(t).Members {
		if m.Name == b.peers[of].ID {
			id = m.ID
		}
	}
	ask := func(i int) (alarms []*pb.AlarmMember, errs []string) {
		c := b.client(i)
		return must(c.AlarmList(t.Context()))(t).Alarms, must(c.Status(t.Context(), b.peers[i].Etcd))(t).Errors
	}
	for i := range b.members {
		if alarms, errs := ask(i); len(alarms) != 0 || len(errs) != 0 {
			t.Errorf("member %d of a healthy cluster tells %v and %v", i, alarms, errs)
		}
	}
	full.tight.Store(true)
	for i := range b.members {
		alarms, errs := ask(i)
		if len(alarms) != 1 || alarms[0].MemberID != id || alarms[0].Alarm != pb.AlarmType_NOSPACE {
			t.Errorf("member %d tells the alarms %v, and the disk of %x is full", i, alarms, id)
		}
		if len(errs) != 1 || !strings.Contains(errs[0], "NOSPACE") {
			t.Errorf("the status of member %d tells %q", i, errs)
		}
	}
	full.tight.Store(false)
	b.stop(of)
	if alarms, _ := ask(0); len(alarms) != 0 {
		t.Errorf("a member that is down is told as %v", alarms)
	}
}
