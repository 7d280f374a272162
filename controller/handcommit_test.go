package controller_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestPodsTellTheirCommit: a pod carries the commit that made it, and a commit that only changes the size makes no new ReplicaSet
// and touches no pod.
func TestPodsTellTheirCommit(t *testing.T) {
	w := newWorld(t)
	w.node("n1", "8", "8Gi", nil)
	first, second := strings.Repeat("a", 40), strings.Repeat("b", 40)
	commit := func(size int, hash string) {
		t.Helper()
		doc := strings.Replace(deployment("web", size, "web:1", ""), "{name: web}",
			"{name: web, annotations: {"+object.AnnotationSource+": cluster, "+object.AnnotationCommit+": "+hash+"}}", 1)
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
		w.converge()
	}
	commit(2, first)
	commit(3, second)
	sets, pods := 0, map[string]int{}
	for o := range w.state.List("replicasets", "default") {
		sets++
		if object.CommitOf(o) != second[:12] || o.(*appsv1.ReplicaSet).Spec.Template.Annotations != nil {
			t.Errorf("ReplicaSet %v", o.GetAnnotations())
		}
	}
	for o := range w.state.List("pods", "default") {
		pods[o.GetAnnotations()[object.AnnotationCommit]]++
		if _, owned := o.GetAnnotations()[object.AnnotationSource]; owned {
			t.Errorf("pod %s passes for an object of git", o.(*corev1.Pod).Name)
		}
	}
	if sets != 1 || pods[first] != 2 || pods[second] != 1 {
		t.Errorf("%d ReplicaSets, pods by commit %v", sets, pods)
	}
	if err := w.delete(object.Key{Resource: "pods", Namespace: "default", Name: podOf(t, w, first)}, controller.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.converge()
	pods = map[string]int{}
	for o := range w.state.List("pods", "default") {
		pods[o.GetAnnotations()[object.AnnotationCommit]]++
	}
	if pods[first] != 1 || pods[second] != 2 {
		t.Errorf("after a deletion: pods by commit %v", pods)
	}
}

func podOf(t *testing.T, w *world, commit string) string {
	t.Helper()
	for o := range w.state.List("pods", "default") {
		if o.GetAnnotations()[object.AnnotationCommit] == commit {
			return o.GetName()
		}
	}
	t.Fatal("no pod of commit " + commit)
	return ""
}
