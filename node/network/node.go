package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
)

// Config of a node's network.
type Config struct {
	// Root keeps the addresses in use. Absolute.
	Root string
	// Bridge is the bridge's name, at most 15 bytes.
	Bridge string
	// Cluster is the network of all pods; Masquerade says whether what leaves it is masqueraded here.
	Cluster    netip.Prefix
	Masquerade bool
	// Self is the node's own address: a peer with it is this node.
	Self netip.Addr
	Log  *slog.Logger
}

// Validate lists all faults.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.Root) {
		errs = append(errs, fmt.Errorf("network config: Root %q: want an absolute path", c.Root))
	}
	if c.Bridge == "" || len(c.Bridge) > 15 {
		errs = append(errs, fmt.Errorf("network config: Bridge %q: want 1 to 15 bytes", c.Bridge))
	}
	if !c.Cluster.IsValid() || !c.Cluster.Addr().Is4() {
		errs = append(errs, fmt.Errorf("network config: Cluster %s: want an IPv4 network", c.Cluster))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("network config: Log must be set"))
	}
	return errors.Join(errs...)
}

// Kernel is what the network changes: the machine's own, or a FakeKernel.
type Kernel interface {
	// Have reads the state. Apply does one operation; it may be repeated.
	Have() (State, error)
	Apply(Op) error
	// Connect makes the pod's veth in its namespace with an address of the gateway's subnet; Disconnect removes it by name. Both
	// may be repeated.
	Connect(netns, link string, ip netip.Addr, gateway netip.Prefix) error
	Disconnect(link string) error
	// Remove takes bridge, routes and rules away.
	Remove() error
}

// Node is the network of one node over a Kernel.
type Node struct {
	cfg    Config
	kernel Kernel
	ips    *addresses

	mu     sync.Mutex // one change of the state at a time
	subnet netip.Prefix
}

// New reads the addresses in use. It changes nothing yet.
func New(c Config, k Kernel) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	ips, err := openAddresses(c.Root)
	if err != nil {
		return nil, err
	}
	return &Node{cfg: c, kernel: k, ips: ips}, nil
}

var _ Network = (*Node)(nil)

// SetNode implements Network.
func (n *Node) SetNode(_ context.Context, subnet netip.Prefix, peers []Peer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if subnet.IsValid() && !subnet.Addr().Is4() {
		return fmt.Errorf("set up the node's network: pod subnet %s is not IPv4", subnet)
	}
	have, err := n.kernel.Have()
	if err != nil {
		return fmt.Errorf("set up the node's network: %w", err)
	}
	var errs []error
	for _, op := range Diff(Want(subnet, n.cfg.Cluster, n.cfg.Masquerade, n.cfg.Self, peers), have) {
		if err := n.kernel.Apply(op); err != nil {
			errs = append(errs, fmt.Errorf("set up the node's network: %s: %w", op, err))
			continue
		}
		n.cfg.Log.Debug("node network changed", "op", op.String())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.subnet = subnet
	return nil
}

// Attach implements Network.
func (n *Node) Attach(_ context.Context, uid, netns string) (netip.Addr, error) {
	n.mu.Lock()
	subnet := n.subnet
	n.mu.Unlock()
	if !subnet.IsValid() {
		return netip.Addr{}, errors.New("the node has no pod subnet yet (spec.podCIDR of its Node is empty)")
	}
	ip, err := n.ips.assign(uid, subnet)
	if err != nil {
		return netip.Addr{}, err
	}
	gateway := netip.PrefixFrom(subnet.Masked().Addr().Next(), subnet.Bits())
	if err := n.kernel.Connect(netns, linkName(ip), ip, gateway); err != nil {
		return netip.Addr{}, fmt.Errorf("connect the pod to the network: %w", err)
	}
	return ip, nil
}

// Detach implements Network. The veth is removed by name: a process that still holds the namespace would keep it otherwise.
func (n *Node) Detach(_ context.Context, uid string) error {
	ip, ok := n.ips.all()[uid]
	if !ok {
		return nil
	}
	if err := n.kernel.Disconnect(linkName(ip)); err != nil {
		return fmt.Errorf("disconnect the pod from the network: %w", err)
	}
	return n.ips.release(uid)
}

// Attached implements Network.
func (n *Node) Attached() map[string]netip.Addr { return n.ips.all() }

// Close implements Network.
func (n *Node) Close(ctx context.Context) error {
	var errs []error
	for uid := range n.ips.all() {
		errs = append(errs, n.Detach(ctx, uid))
	}
	return errors.Join(append(errs, n.kernel.Remove())...)
}

// linkName is the host's end of a pod's veth: unique while the address is in use.
func linkName(ip netip.Addr) string {
	b := ip.As4()
	return fmt.Sprintf("rv%02x%02x%02x%02x", b[0], b[1], b[2], b[3])
}
