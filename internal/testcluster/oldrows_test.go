package testcluster_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/internal/testcluster"
	"reconcile/object"
)

func count(v *cluster.View, resource string) (n int) {
	for range v.List(resource, "") {
		n++
	}
	return n
}

// TestOldRowsGo: of a source's commits the newest hundred stay, and events go an hour after they last happened, also when the server
// that noted their end no longer leads.
func TestOldRowsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReal(t, 1)
		c.Must(testcluster.Create(deployment("web", "web:1", 3)))
		c.WaitFor("available", available("web", 3))
		if count(c.Leader().View(), "events") == 0 {
			t.Fatal("no events to expire")
		}
		name := func(i int) string { return fmt.Sprintf("%040d", i) }
		for i := range 120 {
			row := &object.Commit{ObjectMeta: metav1.ObjectMeta{Name: name(i)},
				Spec: object.CommitSpec{Source: "cluster", Hash: name(i), Received: metav1.NowMicro()}}
			c.Must(testcluster.Create(row))
			time.Sleep(time.Millisecond)
		}
		other := &object.Commit{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: object.CommitSpec{Source: "other", Hash: "other"}}
		c.Must(testcluster.Create(other))
		c.WaitFor("a hundred commits of one source, and that of another", func(v *cluster.View) bool { return count(v, "commits") == 101 })
		v := c.Leader().View()
		for i, want := range map[int]bool{0: false, 19: false, 20: true, 119: true} {
			if _, ok := v.Get(object.Key{Resource: "commits", Name: name(i)}); ok != want {
				t.Errorf("commit %d is kept: %v, want %v", i, ok, want)
			}
		}

		time.Sleep(30 * time.Minute)
		if count(c.Leader().View(), "events") == 0 {
			t.Error("the events are gone after half an hour")
		}
		first := c.Leader().Index
		c.Kill(first)
		c.Leader()
		c.Restart(first)
		time.Sleep(32 * time.Minute)
		c.WaitFor("no events", func(v *cluster.View) bool { return count(v, "events") == 0 })
		c.Settled()
	})
}
