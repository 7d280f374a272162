package network

import (
	"errors"
	"maps"
	"net/netip"
	"sync"
)

// FakeKernel behaves as a kernel's network does, in memory.
type FakeKernel struct {
	mu    sync.Mutex
	state State
	links map[string]netip.Addr
}

// NewFakeKernel returns one without anything in it.
func NewFakeKernel() *FakeKernel {
	return &FakeKernel{state: State{Routes: map[netip.Prefix]netip.Addr{}}, links: map[string]netip.Addr{}}
}

// Have implements Kernel.
func (f *FakeKernel) Have() (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Routes = maps.Clone(s.Routes)
	return s, nil
}

// Apply implements Kernel.
func (f *FakeKernel) Apply(o Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch o.Verb {
	case "bridge":
		f.state.Gateway = o.Prefix
	case "route":
		f.state.Routes[o.Prefix] = o.Via
	case "unroute":
		delete(f.state.Routes, o.Prefix)
	case "masquerade":
		f.state.Masquerade, f.state.Cluster = o.Prefix, o.Cluster
	case "unmasquerade":
		f.state.Masquerade, f.state.Cluster = netip.Prefix{}, netip.Prefix{}
	default:
		return errors.New("unknown operation")
	}
	return nil
}

// Connect implements Kernel.
func (f *FakeKernel) Connect(_, link string, ip netip.Addr, gateway netip.Prefix) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Gateway != gateway {
		return errors.New("there is no bridge with that address")
	}
	f.links[link] = ip
	return nil
}

// Disconnect implements Kernel.
func (f *FakeKernel) Disconnect(link string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.links, link)
	return nil
}

// Remove implements Kernel.
func (f *FakeKernel) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.links = State{Routes: map[netip.Prefix]netip.Addr{}}, map[string]netip.Addr{}
	return nil
}

// Links returns the connected links' addresses.
func (f *FakeKernel) Links() map[string]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.links)
}
