package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node/stats"
	"reconcile/object"
)

const (
	leaseNamespace = "kube-node-lease"
	// statusInterval is how old a Node's heartbeat may get while nothing changes; the Lease is what shows life.
	statusInterval = 5 * time.Minute
	// retryInterval is the wait after a failed write.
	retryInterval = 500 * time.Millisecond
)

// Machine is what the Node object tells of the machine.
type Machine = stats.Machine

// NodeObject is the Node as this agent registers it: metadata and status, no podCIDR.
func NodeObject(c Config, m Machine, now time.Time) *corev1.Node {
	c = c.withDefaults()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: c.NodeName, Labels: map[string]string{
		corev1.LabelHostname:   c.NodeName,
		corev1.LabelOSStable:   m.OS,
		corev1.LabelArchStable: m.Arch,
	}}}
	maps.Copy(n.Labels, c.Labels)
	n.Spec.Taints = slices.Clone(c.Taints)
	FillNodeStatus(&n.Status, c, m, now)
	return n
}

// FillNodeStatus writes what the agent knows into a Node's status. Transition times stay where a condition's status stays.
func FillNodeStatus(s *corev1.NodeStatus, c Config, m Machine, now time.Time) {
	c = c.withDefaults()
	s.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(m.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(m.Memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(m.Disk, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(c.MaxPods), resource.DecimalSI),
	}
	s.Allocatable = s.Capacity.DeepCopy()
	for name, q := range c.Reserved {
		left := s.Allocatable[name]
		left.Sub(q)
		if left.Sign() < 0 {
			left = resource.Quantity{Format: q.Format}
		}
		s.Allocatable[name] = left
	}
	s.Addresses = slices.Clone(c.Addresses)
	s.DaemonEndpoints.KubeletEndpoint.Port = int32(c.StreamPort)
	s.NodeInfo = corev1.NodeSystemInfo{
		MachineID: m.MachineID, SystemUUID: m.SystemUUID, BootID: m.BootID, KernelVersion: m.Kernel, OSImage: m.OSImage,
		ContainerRuntimeVersion: "reconcile://" + c.Version, KubeletVersion: cmp.Or(c.KubeletVersion, c.Version), OperatingSystem: m.OS, Architecture: m.Arch,
	}
	condition := func(t corev1.NodeConditionType, st corev1.ConditionStatus, reason, message string) {
		nc := corev1.NodeCondition{Type: t, Status: st, Reason: reason, Message: message,
			LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now)}
		i := slices.IndexFunc(s.Conditions, func(o corev1.NodeCondition) bool { return o.Type == t })
		if i < 0 {
			s.Conditions = append(s.Conditions, nc)
			return
		}
		if s.Conditions[i].Status == st {
			nc.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		s.Conditions[i] = nc
	}
	condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	if m.DiskPressure != "" {
		condition(corev1.NodeDiskPressure, corev1.ConditionTrue, "KubeletHasDiskPressure", m.DiskPressure)
	} else {
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	}
	condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	if c.ProxyMode != nil {
		mode, message := c.ProxyMode()
		condition("ServiceProxy", corev1.ConditionTrue, mode, message)
	}
	condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
}

// keepRegistered makes the Node object be there and true until ctx ends.
func (a *Agent) keepRegistered(ctx context.Context) error {
	for {
		wait := statusInterval
		if err := a.registerOnce(ctx); err != nil {
			// Right after a start a server answers so until it has caught up: nothing to worry about.
			level := slog.LevelWarn
			if apierrors.IsServiceUnavailable(err) {
				level = slog.LevelInfo
			}
			a.cfg.Log.Log(ctx, level, "cannot register the node, trying again", "node", a.cfg.NodeName, "err", err)
			wait = retryInterval
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-a.disk.changed:
			t.Stop()
		case <-t.C:
		}
	}
}

func (a *Agent) registerOnce(ctx context.Context) error {
	m, err := stats.ReadMachine(a.cfg.Root)
	if err != nil {
		return err
	}
	m.DiskPressure = a.disk.pressed()
	key := object.Key{Resource: "nodes", Name: a.cfg.NodeName}
	now := time.Now()
	got, err := a.cfg.Source.Get(ctx, key)
	if apierrors.IsNotFound(err) {
		if _, err := a.cfg.Sink.Create(ctx, NodeObject(a.cfg, m, now)); err != nil {
			return fmt.Errorf("create %s: %w", key, err)
		}
		got, err = a.cfg.Source.Get(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	old, ok := got.(*corev1.Node)
	if !ok {
		return fmt.Errorf("get %s: got a %T", key, got)
	}
	n := object.Copy(old)
	want := NodeObject(a.cfg, m, now)
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	maps.Copy(n.Labels, want.Labels)
	if !equality.Semantic.DeepEqual(n.Labels, old.Labels) {
		updated, err := a.cfg.Sink.Update(ctx, object.Copy(n))
		if err != nil {
			return fmt.Errorf("update %s: %w", key, err)
		}
		if u, ok := updated.(*corev1.Node); ok {
			n = object.Copy(u)
		}
	}
	FillNodeStatus(&n.Status, a.cfg, m, now)
	if equality.Semantic.DeepEqual(n.Status, old.Status) {
		return nil
	}
	n.ResourceVersion = ""
	if _, err := a.cfg.Sink.UpdateStatus(ctx, n); err != nil {
		return fmt.Errorf("update status of %s: %w", key, err)
	}
	return nil
}

// keepLease renews the node's Lease until ctx ends: the sign of life that the control plane watches.
func (a *Agent) keepLease(ctx context.Context) error {
	var held *coordinationv1.Lease
	for {
		wait := a.cfg.LeaseInterval
		next, err := a.renew(ctx, held)
		if err != nil {
			a.cfg.Log.Debug("cannot renew the node's lease, trying again", "node", a.cfg.NodeName, "err", err)
			wait = min(wait, time.Second)
		}
		held = next
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// renew writes the lease with the present time and returns what is stored, or nil to read it anew next time.
func (a *Agent) renew(ctx context.Context, held *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	key := object.Key{Resource: "leases", Namespace: leaseNamespace, Name: a.cfg.NodeName}
	seconds, now := int32(40), metav1.NowMicro()
	if held == nil {
		got, err := a.cfg.Source.Get(ctx, key)
		if apierrors.IsNotFound(err) {
			l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: a.cfg.NodeName},
				Spec: coordinationv1.LeaseSpec{HolderIdentity: &a.cfg.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now}}
			made, err := a.cfg.Sink.Create(ctx, l)
			return asLease(made), err
		}
		if err != nil {
			return nil, err
		}
		held = asLease(got)
	}
	if held == nil {
		return nil, fmt.Errorf("get %s: it is not a Lease", key)
	}
	l := object.Copy(held)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &a.cfg.NodeName, &seconds, &now
	made, err := a.cfg.Sink.Update(ctx, l)
	if err != nil {
		return nil, err
	}
	return asLease(made), nil
}

func asLease(o object.Object) *coordinationv1.Lease {
	l, _ := o.(*coordinationv1.Lease)
	return l
}

// sleep waits and tells whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
