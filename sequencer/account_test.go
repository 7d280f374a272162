package sequencer

import (
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/raftstore"
)

// TestPodsHaveAccounts: a pod runs as the account that it names, which must be there or come with it, or as its namespace's default; and it gets the
// account's secrets for pulling images if it names none.
func TestPodsHaveAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		account := func(name string) *corev1.ServiceAccount {
			return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "of-" + name}}}
		}
		pod := func(name, account string) *corev1.Pod {
			p := podOf(name, "")
			p.Spec.ServiceAccountName = account
			return p
		}
		check := func(p *corev1.Pod, account, secret string) {
			t.Helper()
			got := ""
			for _, s := range p.Spec.ImagePullSecrets {
				got += s.Name
			}
			if p.Spec.ServiceAccountName != account || p.Spec.DeprecatedServiceAccount != account || got != secret {
				t.Errorf("%s runs as %s (%s) and pulls with %s, want %s and %q", p.Name, p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount, got, account, secret)
			}
		}
		check(r.must(write(Create, pod("a", ""))).Objects[0].(*corev1.Pod), "default", "")
		_, err := r.submit(write(Create, pod("b", "robot")))
		refusedAs(t, err, `pods "b" is forbidden: error looking up service account d/robot: serviceaccount "robot" not found`)
		// The account stands behind the pod in the request.
		check(r.must(write(Create, pod("b", "robot")), write(Create, account("robot"))).Objects[0].(*corev1.Pod), "robot", "of-robot")
		check(r.must(write(Create, pod("c", "robot"))).Objects[0].(*corev1.Pod), "robot", "of-robot")
		own := pod("d", "")
		own.Spec.DeprecatedServiceAccount, own.Spec.ImagePullSecrets = "robot", []corev1.LocalObjectReference{{Name: "mine"}}
		check(r.must(write(Create, own)).Objects[0].(*corev1.Pod), "robot", "mine")
		// Pods that are there stay when their account goes, and can be changed.
		r.must(Op{Verb: Delete, Key: write(Create, account("robot")).Key})
		_, err = r.submit(write(Create, pod("e", "robot")))
		refusedAs(t, err, `pods "e" is forbidden: error looking up service account d/robot: serviceaccount "robot" not found`)
		// Neither the account nor the pod is there if the request fails.
		_, err = r.submit(write(Create, pod("f", "new")), write(Create, account("new")), write(Create, pod("a", "")))
		if err == nil {
			t.Error("a request whose last part cannot be done was done")
		}
		_, err = r.submit(write(Create, pod("f", "new")))
		refusedAs(t, err, `pods "f" is forbidden: error looking up service account d/new: serviceaccount "new" not found`)
	})
}
