package sequencer

import (
	"slices"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
	"reconcile/raftstore"
)

// TestSubresourceChangesWhatAnUpdateKeeps adds a finalizer to a namespace, as its subresource finalize may and an update of the whole may not, also
// when the request comes from another server.
func TestSubresourceChangesWhatAnUpdateKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		ns := r.must(write(Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}})).Objects[0].(*corev1.Namespace).DeepCopy()
		ns.ResourceVersion = ""
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, "example.com/mine")
		if got := r.must(write(Update, ns)).Objects[0].(*corev1.Namespace); len(got.Spec.Finalizers) != 1 {
			t.Errorf("after an update: %v", got.Spec.Finalizers)
		}
		there, err := wireRequestOf(&Request{User: "test", Ops: []Op{{Verb: Update, Subresource: "finalize", Key: object.KeyOf(ns), Object: ns}}})
		if err != nil {
			t.Fatal(err)
		}
		finalize, err := there.request()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.must(finalize.Ops[0]).Objects[0].(*corev1.Namespace); !slices.Equal(got.Spec.Finalizers, ns.Spec.Finalizers) {
			t.Errorf("after finalize: %v, want %v", got.Spec.Finalizers, ns.Spec.Finalizers)
		}
		finalize.Ops[0].Subresource = "none"
		if _, err := r.submit(finalize.Ops[0]); !apierrors.IsBadRequest(err) || err.Error() != `namespaces have no subresource "none" that can be written` {
			t.Errorf("an unknown subresource: %v", err)
		}
	})
}
