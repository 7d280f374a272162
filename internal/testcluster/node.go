package testcluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// Node is a fake machine with a fake kubelet: its pods run and are ready as soon as it sees them, and end as soon as they are asked to.
type Node struct {
	Name string
	c    *Cluster
	next int // server to try
	// stop ends the agent and waits for it.
	stop func()
}

// renewEvery is how often a node renews its lease.
const renewEvery = 10 * time.Second

func pause(ctx context.Context) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (n *Node) run(ctx context.Context) {
	renew := func() { n.renew(ctx) }
	for ctx.Err() == nil {
		if err := n.register(ctx); err != nil {
			pause(ctx)
			continue
		}
		renew()
		err := n.follow(ctx, renew)
		n.c.History.note(n.Name, fmt.Sprintf("follows anew: %v", err), 0)
		n.next++
		pause(ctx)
	}
}

// server is one that runs, another one after each trouble.
func (n *Node) server() (*Server, bool) {
	for range n.c.servers {
		if s := n.c.servers[n.next%len(n.c.servers)]; s.Running() {
			return s, true
		}
		n.next++
	}
	return nil, false
}

func (n *Node) submit(ctx context.Context, op sequencer.Op) error {
	s, ok := n.server()
	if !ok {
		return apierrors.NewServiceUnavailable("no server runs")
	}
	if _, err := s.Seq().Submit(ctx, sequencer.Request{User: "system:node:" + n.Name, Ops: []sequencer.Op{op}}); err != nil {
		n.c.History.note(n.Name, fmt.Sprintf("%s %s: %v", op.Verb, op.Key, err), 0)
		return err
	}
	return nil
}

func write(verb sequencer.Verb, o object.Object) sequencer.Op {
	return sequencer.Op{Verb: verb, Key: object.KeyOf(o), Object: o}
}

// register makes the node known, with room for 110 pods.
func (n *Node) register(ctx context.Context) error {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110")}
	now := metav1.Now().Rfc3339Copy()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{corev1.LabelHostname: n.Name}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}},
		},
	}
	if err := n.submit(ctx, write(sequencer.Create, node)); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func (n *Node) renew(ctx context.Context) {
	now := metav1.NowMicro()
	seconds := int32(40)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.Name},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	if err := n.submit(ctx, write(sequencer.Update, lease)); apierrors.IsNotFound(err) {
		_ = n.submit(ctx, write(sequencer.Create, lease)) // the next renewal tries again
	}
}

// follow handles the node's pods as one server shows them, until that server is in trouble.
func (n *Node) follow(ctx context.Context, renew func()) error {
	s, ok := n.server()
	if !ok {
		return apierrors.NewServiceUnavailable("no server runs")
	}
	v := s.View()
	w, err := cluster.WatchObjects(s.Store(), "pods", "", v.Rev())
	if err != nil {
		return err
	}
	for p := range v.PodsOn(n.Name) {
		if err := n.pod(ctx, p); err != nil {
			return err
		}
	}
	for {
		turn, cancel := context.WithTimeout(ctx, renewEvery)
		events, _, err := w.Next(turn)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, context.DeadlineExceeded) {
			renew()
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			p := e.Object.(*corev1.Pod)
			if e.Type == cluster.Deleted || p.Spec.NodeName != n.Name {
				continue
			}
			if err := n.pod(ctx, p); err != nil {
				return err
			}
		}
	}
}

// pod does what a kubelet would have to do about a pod, at once.
func (n *Node) pod(ctx context.Context, p *corev1.Pod) error {
	var err error
	switch {
	case p.DeletionTimestamp != nil:
		zero := int64(0)
		err = n.submit(ctx, sequencer.Op{Verb: sequencer.Delete, Key: object.KeyOf(p), UID: string(p.UID), GracePeriodSeconds: &zero})
	case p.Status.Phase != corev1.PodRunning:
		err = n.submit(ctx, sequencer.Op{Verb: sequencer.UpdateStatus, Key: object.KeyOf(p), UID: string(p.UID), Object: running(p)})
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or another one of that name; the watch tells
	}
	return err
}

// running is the pod with the status of one whose containers all run and are ready.
func running(p *corev1.Pod) *corev1.Pod {
	p = object.Copy(p)
	now := metav1.Now().Rfc3339Copy()
	p.Status.Phase = corev1.PodRunning
	p.Status.StartTime = &now
	p.Status.PodIP = podIP(p)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	p.Status.ContainerStatuses = nil
	for _, c := range p.Spec.Containers {
		yes := true
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &yes, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	p.Status.Conditions = nil
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return p
}

// podIP is an address out of 10.244.0.0/16 that follows from the pod's UID.
func podIP(p *corev1.Pod) string {
	h := uint32(2166136261)
	for _, b := range []byte(p.UID) {
		h = (h ^ uint32(b)) * 16777619
	}
	return fmt.Sprintf("10.244.%d.%d", h>>8&0xff, h&0xff)
}
