package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/internal/loop"
	"reconcile/object"
	"reconcile/proxy/model"
)

// Config says what a proxy follows and what it programs.
type Config struct {
	// NodeName is this machine's Node.
	NodeName string
	// ClusterCIDR is the range of all pods, ServiceCIDR that of all ClusterIPs, DNSAddr the address of cluster DNS.
	ClusterCIDR, ServiceCIDR netip.Prefix
	DNSAddr                  netip.Addr
	// Source gives Services, EndpointSlices and Nodes. Required.
	Source Source
	// Kernel is what is programmed; see Probe. The proxy uses it alone while Run runs and does not close it. Required.
	Kernel Kernel
	// Resync is the time between two full comparisons with the kernel; 0 means 5 minutes.
	Resync time.Duration
	// Report, if set, is told after each change. It must not block.
	Report func(Status)
	// Log is required.
	Log *slog.Logger
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for name, missing := range map[string]bool{"NodeName": c.NodeName == "", "Source": c.Source == nil, "Kernel": c.Kernel == nil, "Log": c.Log == nil,
		"ClusterCIDR": !c.ClusterCIDR.IsValid(), "ServiceCIDR": !c.ServiceCIDR.IsValid(), "DNSAddr": !c.DNSAddr.IsValid()} {
		if missing {
			errs = append(errs, fmt.Errorf("proxy: %s is missing", name))
		}
	}
	return errors.Join(errs...)
}

// Status is what a proxy has done so far.
type Status struct {
	// Kernel is the kernel's name.
	Kernel string
	// Synced tells whether the kernel has been brought to the cluster's state once.
	Synced bool
	// Services is the number of virtual services, Backends that of their backends.
	Services, Backends int
	// Operations counts the operations applied since the start.
	Operations int
	// Err is why the last round failed.
	Err error
}

// Proxy follows the cluster's services and programs one kernel. It is made by New.
type Proxy struct {
	cfg  Config
	loop *loop.Loop

	mu     sync.Mutex // guards index, synced, pod and status
	index  *model.Index
	synced map[string]bool
	addrs  []netip.Addr
	pods   netip.Prefix
	status Status

	// facts is what the kernel was last set up with; only the loop touches it.
	facts model.Facts
}

// New makes a proxy that does nothing until Run is called.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Resync == 0 {
		cfg.Resync = 5 * time.Minute
	}
	p := &Proxy{cfg: cfg, index: model.NewIndex(cfg.NodeName, cfg.DNSAddr), synced: make(map[string]bool), status: Status{Kernel: cfg.Kernel.Name()}}
	l, err := loop.New(loop.Config{Name: "proxy", Do: p.round, Settle: settle, Resync: cfg.Resync, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	p.loop = l
	return p, nil
}

// settle is how long changes are collected before the kernel is programmed: a rollout changes several slices at once. It is
// part of how long a new endpoint waits for its first connection, so it is short.
const settle = 2 * time.Millisecond

// The resources that a proxy follows. It changes nothing before it has seen the whole of each.
const (
	resourceServices = "services"
	resourceSlices   = "endpointslices"
	resourceNodes    = "nodes"
)

// Run follows and programs until ctx ends. What is in the kernel stays there.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	selections := []object.Selection{
		{Resource: resourceServices},
		{Resource: resourceSlices},
		{Resource: resourceNodes, FieldSelector: "metadata.name=" + p.cfg.NodeName},
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(selections)+1)
	for _, sel := range selections {
		wg.Go(func() {
			err := p.cfg.Source.Follow(ctx, sel, &receiver{p: p, resource: sel.Resource})
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("proxy follows %s: %w", sel.Resource, err)
			}
			errs <- err
			cancel()
		})
	}
	wg.Go(func() { errs <- p.loop.Run(ctx) })
	err := <-errs
	cancel()
	wg.Wait()
	return err
}

// Status is a copy of what has been done so far.
func (p *Proxy) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// State is a copy of the state that is wanted from the kernel. Its services are shared and must not be changed.
func (p *Proxy) State() model.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index.State()
}

// round is one run of the loop.
func (p *Proxy) round(ctx context.Context, why loop.Reason) (time.Duration, error) {
	again, done, err := p.program(ctx, why)
	p.mu.Lock()
	p.status.Err = err
	p.status.Operations += len(done)
	status := p.status
	p.mu.Unlock()
	if len(done) > 0 {
		p.cfg.Log.Info("services programmed", "kernel", status.Kernel, "why", why, "services", status.Services, "backends", status.Backends,
			"services added", done.Count(model.AddService), "updated", done.Count(model.UpdateService), "removed", done.Count(model.RemoveService),
			"backends added", done.Count(model.AddBackend), "backends removed", done.Count(model.RemoveBackend))
	}
	if p.cfg.Report != nil && (len(done) > 0 || err != nil) {
		p.cfg.Report(status)
	}
	return again, err
}

// program brings the kernel to the wanted state and returns the operations that were done.
func (p *Proxy) program(ctx context.Context, why loop.Reason) (time.Duration, model.Delta, error) {
	facts, want, delta, ready := p.want(why)
	if !ready {
		return 0, nil, nil
	}
	first := !p.Status().Synced
	if why == loop.Resync || first || !facts.Equal(p.facts) {
		if err := p.cfg.Kernel.Setup(ctx, facts); err != nil {
			return 0, nil, fmt.Errorf("set up %s: %w", p.cfg.Kernel.Name(), err)
		}
		p.facts = facts
	}
	if why == loop.Resync || first {
		have, err := p.cfg.Kernel.List(ctx)
		if err != nil {
			return 0, nil, fmt.Errorf("list %s: %w", p.cfg.Kernel.Name(), err)
		}
		delta = model.Diff(have, want)
	}
	if len(delta) > 0 {
		if err := p.cfg.Kernel.Apply(ctx, delta); err != nil {
			return 0, nil, fmt.Errorf("program %s: %w", p.cfg.Kernel.Name(), err)
		}
	}
	p.counted(delta, want)
	again, err := p.cfg.Kernel.Drain(ctx)
	if err != nil {
		return 0, delta, fmt.Errorf("drain %s: %w", p.cfg.Kernel.Name(), err)
	}
	return again, delta, nil
}

// want reads what is wanted: the facts, the operations since the last call and, for a full round, the whole state. It is not
// ready before all resources have been seen, so that a proxy that knows half of the cluster removes nothing.
func (p *Proxy) want(why loop.Reason) (model.Facts, model.State, model.Delta, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced[resourceServices] || !p.synced[resourceSlices] || !p.synced[resourceNodes] {
		return model.Facts{}, nil, nil, false
	}
	p.index.SetNodeAddrs(p.addrs)
	delta := p.index.Advance()
	var whole model.State
	if why == loop.Resync || !p.status.Synced {
		whole = p.index.State()
	}
	facts := model.Facts{NodeAddrs: p.addrs, PodCIDR: p.pods, ClusterCIDR: p.cfg.ClusterCIDR, ServiceCIDR: p.cfg.ServiceCIDR, DNSAddr: p.cfg.DNSAddr}
	return facts, whole, delta, true
}

// counted keeps the status' numbers; whole is nil after a round that looked at changes only.
func (p *Proxy) counted(d model.Delta, whole model.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Synced = true
	if whole == nil {
		p.status.Services += d.Count(model.AddService) - d.Count(model.RemoveService)
		p.status.Backends = p.index.Backends()
		return
	}
	p.status.Services, p.status.Backends = len(whole), p.index.Backends()
}

// receiver notes what changes of one resource in the index.
type receiver struct {
	p        *Proxy
	resource string
}

// Replace implements object.Receiver.
func (r *receiver) Replace(all []object.Object) {
	r.p.mu.Lock()
	switch r.resource {
	case resourceServices:
		r.p.index.ReplaceServices(only[*corev1.Service](all))
	case resourceSlices:
		r.p.index.ReplaceSlices(only[*discoveryv1.EndpointSlice](all))
	case resourceNodes:
		for _, n := range only[*corev1.Node](all) {
			r.p.noteNode(n)
		}
	}
	r.p.synced[r.resource] = true
	r.p.mu.Unlock()
	r.p.loop.Trigger()
}

// Upsert implements object.Receiver.
func (r *receiver) Upsert(o object.Object) {
	r.p.mu.Lock()
	switch o := o.(type) {
	case *corev1.Service:
		r.p.index.UpsertService(o)
	case *discoveryv1.EndpointSlice:
		r.p.index.UpsertSlice(o)
	case *corev1.Node:
		r.p.noteNode(o)
	}
	r.p.mu.Unlock()
	r.p.loop.Trigger()
}

// Remove implements object.Receiver. A Node that is gone leaves its addresses as they were: pods may still run.
func (r *receiver) Remove(k object.Key) {
	r.p.mu.Lock()
	switch k.Resource {
	case resourceServices:
		r.p.index.RemoveService(k.Namespace, k.Name)
	case resourceSlices:
		r.p.index.RemoveSlice(k.Namespace, k.Name)
	}
	r.p.mu.Unlock()
	r.p.loop.Trigger()
}

// noteNode reads this node's addresses and pod range. The caller holds the lock.
func (p *Proxy) noteNode(n *corev1.Node) {
	if n.Name != p.cfg.NodeName {
		return
	}
	var addrs []netip.Addr
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); a.Type == kind && err == nil && addr.Is4() {
				addrs = append(addrs, addr)
			}
		}
	}
	p.addrs = addrs
	if pods, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil && pods.Addr().Is4() {
		p.pods = pods.Masked()
	}
}

func only[T object.Object](all []object.Object) []T {
	out := make([]T, 0, len(all))
	for _, o := range all {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}
