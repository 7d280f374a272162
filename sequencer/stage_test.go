package sequencer

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/raftstore"
)

// noise is a ConfigMap that cannot be compressed: written to the log it has to be staged.
func noise(name string, bytes int) *corev1.ConfigMap {
	cm := configMap(name, "1")
	body := make([]byte, bytes)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	cm.BinaryData = map[string][]byte{"noise": body}
	return cm
}

// TestStagingHoldsUpNoRenewal: while a large entry is brought to the servers in pieces, the leader goes on with what needs no entry.
func TestStagingHoldsUpNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, jam, release := jammed(t, nil)
		r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}))
		r.must(write(Create, nodeLease("n1", "n1")))
		jam()
		large := make(chan error, 1)
		go func() {
			_, err := r.submit(write(Create, noise("large", 400<<10)))
			large <- err
		}()
		time.Sleep(time.Millisecond)
		renewed := make(chan error, 1)
		go func() {
			_, err := r.submit(write(Update, nodeLease("n1", "n1")))
			renewed <- err
		}()
		select {
		case err := <-renewed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Second):
			t.Error("the renewal waits for the large entry")
		}
		release()
		if err := <-large; err != nil {
			t.Error(err)
		}
		r.stop()
	})
}

// TestLargeEntryPassesBlobs: a large entry, and all writes behind it, do not wait until the blob of a push is there.
func TestLargeEntryPassesBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		storage := raftstore.MemoryStorage()
		storage.Intercept(func(bool) error {
			if slow.Load() {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		})
		r := newRig(t, storage, nil)
		slow.Store(true)
		staged := make(chan error, 1)
		go func() {
			_, err := r.seq.StageBlob(context.Background(), noise("blob", 24<<20).BinaryData["noise"])
			staged <- err
		}()
		time.Sleep(15 * time.Millisecond)
		if _, err := r.submit(write(Create, noise("large", 400<<10))); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-staged:
			t.Errorf("the large entry waited for the blob: %v", err)
		default:
			if err := <-staged; err != nil {
				t.Error(err)
			}
		}
		r.stop()
	})
}

// TestTooLargeForTheStore: a request that no member would take is told so, and the leader goes on.
func TestTooLargeForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log, _, _ := jammed(t, nil)
		if _, err := r.submit(write(Create, noise("huge", 65<<20))); !apierrors.IsBadRequest(err) {
			t.Errorf("it is told: %v", err)
		}
		r.must(write(Create, configMap("a", "1")))
		r.stop()
		oneTenure(t, log)
	})
}
