package admission

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// TestNoNewFinalizers: no kind takes a new finalizer on what is being deleted, and each says so once.
func TestNoNewFinalizers(t *testing.T) {
	for _, k := range object.Kinds() {
		if r := rulesOf(k.Resource); r.update == nil {
			continue
		}
		old := k.New()
		old.SetName("a")
		if k.Namespaced {
			old.SetNamespace("default")
		}
		old.SetResourceVersion("5")
		at, grace := metav1.Now(), int64(0)
		old.SetDeletionTimestamp(&at)
		old.SetDeletionGracePeriodSeconds(&grace)
		old.SetFinalizers([]string{"example.com/a"})
		Default(old)
		next := object.Copy(old)
		next.SetFinalizers([]string{"example.com/a", "example.com/b"})
		told := slices.DeleteFunc(Validate(next, old), func(f *field.Error) bool { return f.Field != "metadata.finalizers" })
		if len(told) != 1 || told[0].Type != field.ErrorTypeForbidden {
			t.Errorf("%s: %v", k, told)
		}
	}
}
