package controller

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSecondDelete: a deletion of what is being deleted changes what the first one waits for, if it names another policy.
func TestSecondDelete(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		first, second string
		gone          bool
		want          []string // the finalizers afterwards; nil with gone false: nothing changes
	}{
		{"Foreground", "Orphan", false, []string{metav1.FinalizerOrphanDependents}},
		{"Orphan", "Foreground", false, []string{metav1.FinalizerDeleteDependents}},
		{"Foreground", "Background", true, nil},
		{"Foreground", "Foreground", false, nil},
		{"Foreground", "", false, nil},
	} {
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "a"}}
		first, gone := BeginDelete(rs, DeleteOptions{PropagationPolicy: c.first}, now)
		if gone || first == nil {
			t.Fatalf("%s: gone at once", c.first)
		}
		next, gone := BeginDelete(first, DeleteOptions{PropagationPolicy: c.second}, now)
		var got []string
		if next != nil {
			got = next.GetFinalizers()
		}
		if gone != c.gone || !slices.Equal(got, c.want) {
			t.Errorf("%s, then %s: finalizers %v, gone %t; want %v, %t", c.first, c.second, got, gone, c.want, c.gone)
		}
	}
}
