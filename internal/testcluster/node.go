package testcluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// Node is a fake machine with a fake kubelet: its pods run and are ready as soon as it sees them, and end as soon as they are asked to.
type Node struct {
	Name string
	c    *Cluster
	next atomic.Int64 // server to try
	// index makes the node's addresses; addresses are those that its pods have.
	index     int
	addresses map[types.UID]string
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

// run is the agent: until ctx ends it follows its pods and, beside that and held up by nothing, renews its lease.
func (n *Node) run(ctx context.Context) {
	for n.register(ctx) != nil {
		if pause(ctx); ctx.Err() != nil {
			return
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for ctx.Err() == nil {
			n.renew(ctx)
			select {
			case <-time.After(renewEvery):
			case <-ctx.Done():
			}
		}
	})
	for ctx.Err() == nil {
		err := n.follow(ctx)
		n.c.History.note(n.Name, fmt.Sprintf("follows anew: %v", err), 0)
		n.next.Add(1)
		pause(ctx)
	}
}

// server is one that runs, another one after each trouble.
func (n *Node) server() (*Server, bool) {
	for range n.c.servers {
		if s := n.c.servers[int(n.next.Load())%len(n.c.servers)]; s.Running() {
			return s, true
		}
		n.next.Add(1)
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
func (n *Node) follow(ctx context.Context) error {
	s, ok := n.server()
	if !ok {
		return apierrors.NewServiceUnavailable("no server runs")
	}
	v := s.View()
	w, err := cluster.WatchObjects(s.Store(), "pods", "", v.Rev())
	if err != nil {
		return err
	}
	n.addresses = map[types.UID]string{}
	for p := range v.PodsOn(n.Name) {
		if p.Status.PodIP != "" {
			n.addresses[p.UID] = p.Status.PodIP
		}
	}
	for p := range v.PodsOn(n.Name) {
		if err := n.pod(ctx, p); err != nil {
			return err
		}
	}
	for {
		events, _, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range events {
			p := e.Object.(*corev1.Pod)
			if p.Spec.NodeName != n.Name {
				continue
			}
			if e.Type == cluster.Deleted {
				delete(n.addresses, p.UID)
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
		err = n.submit(ctx, sequencer.Op{Verb: sequencer.UpdateStatus, Key: object.KeyOf(p), UID: string(p.UID), Object: running(p, n.address(p))})
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or another one of that name; the watch tells
	}
	return err
}

// running is the pod with the status of one whose containers all run and are ready, at an address.
func running(p *corev1.Pod, ip string) *corev1.Pod {
	p = object.Copy(p)
	now := metav1.Now().Rfc3339Copy()
	p.Status.Phase = corev1.PodRunning
	p.Status.StartTime = &now
	p.Status.PodIP = ip
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

// address gives a pod one of the node's 254 addresses, which no other pod of the node has, as its agent's IPAM does.
func (n *Node) address(p *corev1.Pod) string {
	if have, ok := n.addresses[p.UID]; ok {
		return have
	}
	used := map[string]bool{}
	for _, ip := range n.addresses {
		used[ip] = true
	}
	for i := 1; i < 255; i++ {
		if ip := fmt.Sprintf("10.244.%d.%d", n.index, i); !used[ip] {
			n.addresses[p.UID] = ip
			return ip
		}
	}
	return ""
}
