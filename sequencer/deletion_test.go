package sequencer

import (
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
	"reconcile/raftstore"
)

// TestFinalize: the finalizers of a namespace's specification are changed by its subresource and by nothing else, and with the last of them a deleted
// namespace goes.
func TestFinalize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		ns := func(finalizers ...corev1.FinalizerName) *corev1.Namespace {
			return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NamespaceSpec{Finalizers: finalizers}}
		}
		stored := func() []corev1.FinalizerName {
			o, ok := r.store.View().Get(object.KeyOf(ns()).Path())
			if !ok {
				return nil
			}
			got, err := object.Decode(o.Value)
			if err != nil {
				t.Fatal(err)
			}
			return got.(*corev1.Namespace).Spec.Finalizers
		}
		r.must(write(Create, ns()))
		r.must(write(Update, ns("kubernetes", "example.com/x")))
		if got := stored(); len(got) != 1 {
			t.Errorf("an update made the finalizers %v", got)
		}
		finalize := write(Update, ns("kubernetes", "example.com/x"))
		finalize.Subresource = "finalize"
		r.must(finalize)
		if got := stored(); len(got) != 2 {
			t.Errorf("the subresource made the finalizers %v", got)
		}
		res := r.must(Op{Verb: Delete, Key: object.KeyOf(ns())})
		if o := res.Objects[0]; o.GetDeletionTimestamp() == nil || o.GetDeletionGracePeriodSeconds() != nil {
			t.Errorf("being deleted it says %v, %v", o.GetDeletionTimestamp(), o.GetDeletionGracePeriodSeconds())
		}
		if _, err := r.submit(write(Create, ns())); !apierrors.IsAlreadyExists(err) || !strings.HasPrefix(err.Error(), "object is being deleted: ") {
			t.Errorf("made again meanwhile: %v", err)
		}
		finalize.Object = ns()
		r.must(finalize)
		if got := stored(); got != nil {
			t.Errorf("it is still there, with %v", got)
		}
		finalize.Subresource = "nonsense"
		r.must(write(Create, ns()))
		if _, err := r.submit(finalize); !apierrors.IsBadRequest(err) {
			t.Errorf("by a subresource that there is not: %v", err)
		}
	})
}

// TestStatusReport: who reports a status and names no version changes nothing but the status: it may have seen an older object.
func TestStatusReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p", Finalizers: []string{"example.com/hold"}, Labels: map[string]string{"l": "1"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		made := r.must(write(Create, pod)).Objects[0]
		report := object.Copy(made).(*corev1.Pod)
		report.Finalizers, report.Labels, report.Status.Phase = nil, map[string]string{"l": "old"}, corev1.PodRunning
		for _, c := range []struct {
			version string
			holds   int
			label   string
		}{{"", 1, "1"}, {"seen", 0, "old"}} {
			op := write(UpdateStatus, report)
			if c.version != "" {
				stored, _ := r.get("pods", "p")
				op.ResourceVersion = stored.GetResourceVersion()
			}
			got := r.must(op).Objects[0].(*corev1.Pod)
			if got.Status.Phase != corev1.PodRunning || len(got.Finalizers) != c.holds || got.Labels["l"] != c.label {
				t.Errorf("with version %q: %s, finalizers %v, labels %v", c.version, got.Status.Phase, got.Finalizers, got.Labels)
			}
		}
	})
}

// TestAnswerToADeletion: the answer has the revision of the deletion, and a pod's says that the deletion has begun.
func TestAnswerToADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		made := r.must(write(Create, pod)).Objects[0]
		res := r.must(Op{Verb: Delete, Key: object.KeyOf(pod)})
		o := res.Objects[0]
		if o.GetDeletionTimestamp() == nil || o.GetDeletionGracePeriodSeconds() == nil || *o.GetDeletionGracePeriodSeconds() != 0 || o.GetGeneration() != made.GetGeneration()+1 {
			t.Errorf("deleted at %v, grace %v, generation %d after %d", o.GetDeletionTimestamp(), o.GetDeletionGracePeriodSeconds(), o.GetGeneration(), made.GetGeneration())
		}
		if o.GetResourceVersion() == made.GetResourceVersion() {
			t.Errorf("the answer has the revision %s of the creation", o.GetResourceVersion())
		}
		if made.GetDeletionTimestamp() != nil {
			t.Error("the shared object was changed")
		}
	})
}
