package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"reconcile/node/statefile"
)

// addresses hands out a subnet's addresses and keeps them on disk, so that a pod keeps its address when the agent is started again
// and nobody else gets it. The first address is the bridge's.
type addresses struct {
	path string
	mu   sync.Mutex
	st   addressState
}

type addressState struct {
	Pods map[string]netip.Addr `json:"pods"`
	// Last was handed out last: addresses are used in turn, so that a freed one rests.
	Last netip.Addr `json:"last"`
}

func openAddresses(dir string) (*addresses, error) {
	a := &addresses{path: filepath.Join(dir, "addresses.json"), st: addressState{Pods: map[string]netip.Addr{}}}
	err := statefile.ReadJSON(a.path, &a.st)
	if errors.Is(err, os.ErrNotExist) {
		return a, os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("read the pods' addresses: %w", err)
	}
	if a.st.Pods == nil {
		a.st.Pods = map[string]netip.Addr{}
	}
	return a, nil
}

// assign returns the pod's address in subnet, a new one if it has none there.
func (a *addresses) assign(uid string, subnet netip.Prefix) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ip, ok := a.st.Pods[uid]; ok && subnet.Contains(ip) {
		return ip, nil
	}
	used := map[netip.Addr]bool{}
	for _, ip := range a.st.Pods {
		used[ip] = true
	}
	ip, err := nextFree(subnet, a.st.Last, used)
	if err != nil {
		return netip.Addr{}, err
	}
	a.st.Pods[uid], a.st.Last = ip, ip
	return ip, a.save()
}

// nextFree is the first free address after last, in turn; network, bridge and broadcast addresses are left out.
func nextFree(subnet netip.Prefix, last netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	first := subnet.Masked().Addr().Next().Next()
	ip := first
	if subnet.Contains(last) && last.Compare(first) >= 0 {
		ip = last.Next()
	}
	for range 1 << (32 - subnet.Bits()) {
		if !subnet.Contains(ip) || !subnet.Contains(ip.Next()) {
			ip = first
		}
		if !used[ip] {
			return ip, nil
		}
		ip = ip.Next()
	}
	return netip.Addr{}, fmt.Errorf("no address is free in the node's pod subnet %s", subnet)
}

func (a *addresses) release(uid string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.st.Pods[uid]; !ok {
		return nil
	}
	delete(a.st.Pods, uid)
	return a.save()
}

func (a *addresses) all() map[string]netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.st.Pods)
}

func (a *addresses) save() error {
	if err := statefile.WriteJSON(a.path, a.st); err != nil {
		return fmt.Errorf("keep the pods' addresses: %w", err)
	}
	return nil
}
