package sequencer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/raftstore"
)

// mined is a Settler that panics, outside of any controller, when it is to settle one key.
type mined struct {
	Settler
	at string
}

func (m mined) Settle(o controller.Overlay, triggers []controller.Trigger, now time.Time, budget int, admit controller.Admit) controller.Outcome {
	for _, t := range triggers {
		if t.Key.Name == m.at {
			panic(fmt.Sprintf("cannot settle: password is %s", "hunter2"))
		}
	}
	return m.Settler.Settle(o, triggers, now, budget, admit)
}

// What a panic says may be a user's value, a Secret's too: neither the client nor the log may have it.
func TestPanicTellsNoValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			c.Settler = mined{c.Settler, "bad"}
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		_, err := r.submit(write(Create, configMap("bad", "1")))
		r.must(write(Create, configMap("good", "1")))
		r.stop()
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), ".go:") {
			t.Errorf("the client is told: %v", err)
		}
		if text := log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "panic_test.go") {
			t.Errorf("the log says where it panicked, and no value:\n%s", text)
		}
	})
}

// A wake, a leftover or a checkpoint of leases that panics must not end the server, nor hold up the others that are due with it.
func TestPanicOfLeftoversIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := raftstore.MemoryStorage()
		r := newRig(t, storage, nil)
		for i := range 5 {
			r.must(write(Create, configMap(fmt.Sprintf("c%d", i), "1")))
		}
		r.stop()
		r = newRig(t, storage, func(c *Config) { c.Settler = mined{c.Settler, "c2"} }) // its first run is on everything there is
		defer r.stop()
		time.Sleep(2 * time.Minute)
		for i := range 5 {
			s, ok := r.get("secrets", fmt.Sprintf("c%d", i))
			if late := ok && s.(*corev1.Secret).Data["late"] != nil; late != (i != 2) {
				t.Errorf("c%d was settled when it was due: %v", i, late)
			}
		}
	})
}

// A renewal that wakes controllers and panics is kept all the same, and the server goes on.
func TestPanicOfRenewalIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Settler = minedLeases{c.Settler} })
		defer r.stop()
		r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}))
		r.must(write(Create, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})) // not Ready: its renewals wake
		r.must(write(Create, nodeLease("n1", "n1")))
		time.Sleep(time.Second)
		r.must(write(Update, nodeLease("n1", "n1")))
		time.Sleep(30 * time.Second)
		r.must(write(Create, configMap("a", "1")))
		if _, ok := r.get("secrets", "a"); !ok {
			t.Error("the server settles no more")
		}
	})
}

// minedLeases panics over changes of leases that nobody has asked for.
type minedLeases struct{ Settler }

func (m minedLeases) Triggers(v controller.View, list []controller.Change) []controller.Trigger {
	for _, c := range list {
		if c.Key.Resource == "leases" && c.Old != nil {
			panic("a lease")
		}
	}
	return m.Settler.Triggers(v, list)
}
