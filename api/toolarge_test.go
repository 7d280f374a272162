package api_test

import (
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/apitest"
)

// TestTooLargeResourceVersion: what the server says of a resourceVersion from the future reaches a client as the 504 with the cause that it knows.
func TestTooLargeResourceVersion(t *testing.T) {
	t.Parallel()
	c := typed(t, apitest.Start(t, apitest.New(), nil), true)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, path := range []string{"/api/v1/namespaces/default", "/api/v1/namespaces", "/api/v1/namespaces/default/pods"} {
		wg.Go(func() {
			err := c.CoreV1().RESTClient().Get().AbsPath(path).Param("resourceVersion", "1000000").MaxRetries(0).Do(t.Context()).Error()
			if !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
				t.Errorf("%s says %v", path, err)
			}
		})
	}
}
