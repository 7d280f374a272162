package controllers

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/features"
)

// TestMain takes out of Kubernetes' controllers what is about a real API server: waiting until an informer has seen the controller's own
// writes (here it has at once, but the fake clientset gives lists no version), and slowing down after an error by the machine's clock.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	utilruntime.ErrorHandlers = nil
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
		string(features.StaleControllerConsistencyDaemonSet): false, string(features.StaleControllerConsistencyJob): false,
		string(features.StaleControllerConsistencyReplicaSet): false, string(features.StaleControllerConsistencyStatefulSet): false,
	}); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
