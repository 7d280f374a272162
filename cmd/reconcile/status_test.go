package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/api/explaindoor"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/explain"
	"reconcile/object"
)

const hash = "3f2a1c0d9e8b7a6543210fedcba9876543210fed"

func commit(at time.Time, phase string) *object.Commit {
	stamp := metav1.NewMicroTime(at.Add(25 * time.Millisecond))
	c := &object.Commit{
		ObjectMeta: metav1.ObjectMeta{Name: hash, UID: "c", CreationTimestamp: metav1.NewTime(at)},
		Spec: object.CommitSpec{
			Source: "cluster", Hash: hash, Author: "Ann", Subject: "web: more replicas", Created: 2,
			Received: metav1.NewMicroTime(at), Validated: metav1.NewMicroTime(at.Add(12 * time.Millisecond)), Planned: metav1.NewMicroTime(at.Add(20 * time.Millisecond)),
			Objects: []object.CommitObject{
				{Resource: "deployments", Namespace: "default", Name: "web", File: "web.yaml", Line: 1},
				{Resource: "services", Namespace: "default", Name: "web", File: "web.yaml", Line: 14},
			},
		},
		Status: object.CommitStatus{Phase: phase, Committed: &stamp, Current: 1, Total: 2, Message: "deployment/default/web: Available: 1/3",
			Waiting: []object.CommitWaiting{{CommitObject: object.CommitObject{Resource: "deployments", Namespace: "default", Name: "web", File: "web.yaml", Line: 1}, Status: "InProgress", Message: "Available: 1/3"}}},
	}
	if phase == object.CommitHealthy {
		end := metav1.NewMicroTime(at.Add(1412 * time.Millisecond))
		c.Status.Healthy, c.Status.Current, c.Status.Waiting, c.Status.Message = &end, 2, nil, ""
	}
	return c
}

func wants(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("output has no %q:\n%s", w, got)
		}
	}
}

func TestStatus(t *testing.T) {
	store := apitest.New()
	s := apitest.Start(t, store, nil)
	kc := "--kubeconfig=" + s.Kubeconfig
	wants(t, mustReconcile(t, "status", kc), "no commit yet")
	if _, err := reconcile(t, "status", "abc", kc); err == nil || !strings.Contains(err.Error(), "no commit yet") {
		t.Errorf("status of a commit of none: %v", err)
	}
	now := metav1.NowMicro()
	store.Put(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: controller.ServerLeasePrefix + "s1", Annotations: map[string]string{controller.AnnotationAddress: "10.0.0.1:6443"}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("s1"), RenewTime: &now, LeaseDurationSeconds: ptr.To[int32](40)}})
	store.Put(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: controller.LeaderLease}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("s1")}})
	store.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
	store.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
	at := time.Now().Add(-time.Minute)
	store.Put(commit(at, object.CommitProgressing))
	out := mustReconcile(t, "status", kc)
	wants(t, out, "server  s1  10.0.0.1:6443  leader", "node    n1  Ready", "1 pods", "pods    1   1 running", "commit 3f2a1c0d9e8b Ann web: more replicas")
	if strings.Contains(out, "disk") {
		t.Errorf("a disk with space is mentioned:\n%s", out)
	}
	store.Put(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: controller.ServerLeasePrefix + "s1", Annotations: map[string]string{controller.AnnotationAddress: "10.0.0.1:6443", controller.AnnotationDisk: "2 of 3 GiB"}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("s1"), RenewTime: &now, LeaseDurationSeconds: ptr.To[int32](40)}})
	store.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Message: "1 of 9 GiB"}}}})
	wants(t, mustReconcile(t, "status", kc), "leader, disk nearly full: 2 of 3 GiB", "1 pods, disk nearly full: 1 of 9 GiB")
	if strings.Contains(out, "\x1b") {
		t.Error("colour without a terminal")
	}
	wants(t, mustReconcile(t, "status", "3f2a1c", kc), "validated  +12 ms", "planned    +20 ms", "committed  +25 ms",
		"progressing, 1 of 2 objects current", "deployment/default/web  web.yaml:1   InProgress  Available: 1/3", "service/default/web     web.yaml:14  Current")
	var st clusterStatus
	if err := json.Unmarshal([]byte(mustReconcile(t, "status", "-o", "json", kc)), &st); err != nil || len(st.Servers) != 1 || !st.Servers[0].Leader || st.Commit.Spec.Hash != hash {
		t.Errorf("status -o json: %+v, %v", st, err)
	}
	if _, err := reconcile(t, "status", "fff", kc); err == nil || !strings.Contains(err.Error(), "knows no commit fff") {
		t.Errorf("status of an unknown commit: %v", err)
	}
	wants(t, mustReconcile(t, "log", kc), "COMMIT", "3f2a1c0d9e8b  progressing  1/2      +2 ~0 -0", "Ann")
	var list []object.Commit
	if err := json.Unmarshal([]byte(mustReconcile(t, "log", "-o", "json", kc)), &list); err != nil || len(list) != 1 {
		t.Errorf("log -o json: %v, %v", list, err)
	}
}

// TestStatusOfACommit: which commit a name means, and the entry that it became.
func TestStatusOfACommit(t *testing.T) {
	store := apitest.New()
	s := apitest.Start(t, store, nil)
	kc := "--kubeconfig=" + s.Kubeconfig
	at := time.Now().Add(-time.Minute)
	store.Put(commit(at, object.CommitSuperseded))
	child := commit(at.Add(time.Second), object.CommitProgressing)
	child.Name, child.UID, child.Spec.Hash, child.Spec.Ref, child.Spec.Parent = "aa"+hash[2:], "d", "aa"+hash[2:], "refs/heads/main", hash
	child.Status.Entry = &object.CommitEntry{FirstRevision: 41, LastRevision: 44, RaftIndex: 97, RaftTerm: 3}
	store.Put(child)
	for _, name := range []string{"HEAD", "main", "refs/heads/main", "aa2a1c"} {
		out := mustReconcile(t, "status", name, kc)
		wants(t, out, "commit aa2a1c0d9e8b", "revisions  41 to 44", "entry      index 97 of raft's log, term 3")
		var c object.Commit
		if err := json.Unmarshal([]byte(mustReconcile(t, "status", name, "-o", "json", kc)), &c); err != nil || c.Status.Entry == nil || *c.Status.Entry != *child.Status.Entry {
			t.Errorf("status %s -o json: %+v, %v", name, c.Status.Entry, err)
		}
	}
	for _, name := range []string{"HEAD~1", "main^", "HEAD~"} {
		if out := mustReconcile(t, "status", name, kc); !strings.Contains(out, "commit 3f2a1c0d9e8b") || strings.Contains(out, "revisions") {
			t.Errorf("status %s: %s", name, out)
		}
	}
	for name, want := range map[string]string{"HEAD~2": "has no parent", "HEAD^2": "first parents only", "HEAD~x": "want a hash", "dev": "knows no commit dev"} {
		if _, err := reconcile(t, "status", name, kc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("status %s: %v", name, err)
		}
	}
	if _, err := reconcile(t, "status", "", kc); err != nil {
		t.Error(err)
	}
}

// TestStatusWatch follows a commit to its end, good and bad.
func TestStatusWatch(t *testing.T) {
	for _, end := range []string{object.CommitHealthy, object.CommitFailed} {
		t.Run(end, func(t *testing.T) {
			store := apitest.New()
			s := apitest.Start(t, store, nil)
			at := time.Now()
			store.Put(commit(at, object.CommitProgressing))
			r, w := io.Pipe()
			root := newRoot()
			root.SetOut(w)
			root.SetArgs([]string{"status", "--watch", "--kubeconfig", s.Kubeconfig})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- root.ExecuteContext(ctx); w.Close() }()
			first := make([]byte, 200)
			n, err := r.Read(first)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, string(first[:n]), "3f2a1c0d9e8b progressing, 1 of 2 objects current: deployment/default/web: Available: 1/3")
			store.Put(commit(at, end))
			var rest bytes.Buffer
			if _, err := io.Copy(&rest, r); err != nil {
				t.Fatal(err)
			}
			err = <-done
			if end == object.CommitHealthy {
				wants(t, rest.String(), "healthy +1.412 s, 2 of 2 objects current")
				if err != nil {
					t.Error(err)
				}
				return
			}
			wants(t, rest.String(), "failed, 1 of 2")
			if err == nil || errors.Is(err, context.DeadlineExceeded) || exitCode(err) != 1 {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	store := apitest.New()
	state := memview.New()
	s := apitest.Start(t, store, func(c *api.Config) { c.Reconcile = explaindoor.New(func() explain.View { return state }) })
	put := func(o object.Object) {
		store.Put(o)
		state.Put(o)
	}
	put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Status: corev1.PodStatus{Phase: corev1.PodPending,
		Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/2 nodes are available: 2 Insufficient cpu"}}}})
	put(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p", Namespace: "default"}, Type: "Warning", Reason: "FailedScheduling", Message: "no room"})
	full := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("0")}
	room := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("9")}
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Allocatable: full, Conditions: ready}})
	put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Spec: corev1.NodeSpec{Unschedulable: true}, Status: corev1.NodeStatus{Allocatable: room, Conditions: ready}})
	put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3"}, Status: corev1.NodeStatus{Allocatable: room, Conditions: ready}})
	wants(t, mustReconcile(t, "explain", "pod/p", "--kubeconfig", s.Kubeconfig), "n1  refuses   NodeResourcesFit: Too many pods",
		"n2  refuses   NodeUnschedulable: node(s) were unschedulable", "n3  has room  score ")
	wants(t, mustReconcile(t, "explain", "pod/p", "--kubeconfig", s.Kubeconfig), "pod/default/p is Pending on no node", "0/2 nodes are available: 2 Insufficient cpu", "FailedScheduling")
	wants(t, mustReconcile(t, "explain", "node/n3", "--kubeconfig", s.Kubeconfig), "without node n3, of its pods that are made anew")
	if _, err := reconcile(t, "explain", "node/nix", "--kubeconfig", s.Kubeconfig); err == nil || !strings.Contains(err.Error(), `nodes "nix" not found`) {
		t.Errorf("explain no node: %v", err)
	}
	wants(t, mustReconcile(t, "rebalance", "--plan", "--kubeconfig", s.Kubeconfig), "every pod is where it scores best, or close to it")
	if _, err := reconcile(t, "rebalance", "--plan", "--gain", "0", "--kubeconfig", s.Kubeconfig); err == nil || !strings.Contains(err.Error(), "--gain") {
		t.Errorf("rebalance without gain: %v", err)
	}
	if _, err := reconcile(t, "explain", "pod/nix", "--kubeconfig", s.Kubeconfig); err == nil || !strings.Contains(err.Error(), `pods "nix" not found`) {
		t.Errorf("explain nothing: %v", err)
	}
}
