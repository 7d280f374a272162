package network

import (
	"context"
	"net/netip"
)

// Network gives pods addresses and connects them. Host is the real one, Fake the semantic fake. Methods may be called from several
// goroutines.
type Network interface {
	// SetNode tells the node's own pod subnet and the other nodes', and makes bridge, routes and rules so. It is called again
	// whenever something of it changed. An invalid subnet means that none is allotted yet.
	SetNode(ctx context.Context, subnet netip.Prefix, peers []Peer) error
	// Attach connects a pod's network namespace and returns its address, the same one as before if the pod had one.
	Attach(ctx context.Context, podUID, netns string) (netip.Addr, error)
	// Detach removes a pod's veth and frees its address. It is idempotent.
	Detach(ctx context.Context, podUID string) error
	// Attached returns the addresses in use by pod UID.
	Attached() map[string]netip.Addr
	// Close removes bridge, routes and rules. Only `reconcile reset` and tests call it: an agent leaves them.
	Close(ctx context.Context) error
}

// Peer is another node: its pods' subnet is reached by its address.
type Peer struct {
	Node   string
	Subnet netip.Prefix
	Via    netip.Addr
}
