package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Config is everything that makes one agent differ from another. Several may run on one host, each in a network namespace of its
// own, if Root, RunDir, CgroupPrefix and NodeName differ.
type Config struct {
	// NodeName is the name of the Node object: a DNS name in lower case.
	NodeName string
	// Root keeps what must survive a reboot: images, containers, volumes, addresses. Absolute.
	Root string
	// RunDir keeps what need not: the helper, pinned namespaces. Absolute, short, private to this agent (/run/reconcile-NAME).
	RunDir string
	// CgroupPrefix is the agent's branch of the cgroup tree ("/reconcile-n1").
	CgroupPrefix string
	// Bridge is the name of the pods' bridge in the agent's network namespace; empty is cbr0.
	Bridge string
	// Addresses are the node's (InternalIP, Hostname). At least one InternalIP.
	Addresses []corev1.NodeAddress
	// ClusterCIDR is the network of all pods; what leaves it is masqueraded. 10.244.0.0/16.
	ClusterCIDR netip.Prefix
	// Masquerade says whether the agent itself masquerades pod traffic that leaves ClusterCIDR, in an nftables table of its own.
	Masquerade bool
	// ClusterDNS and ClusterDomain are what pods get in /etc/resolv.conf. 10.96.0.10, cluster.local.
	ClusterDNS    netip.Addr
	ClusterDomain string
	// APIService is the address of default/kubernetes that containers get as KUBERNETES_SERVICE_HOST and _PORT. 10.96.0.1:443.
	APIService netip.AddrPort
	// StreamPort is the port of the node's HTTPS endpoint, told in the Node object.
	StreamPort int
	// Labels and Taints are set when the Node is registered.
	Labels map[string]string
	Taints []corev1.Taint
	// MaxPods is the node's capacity of pods; 0 is 110.
	MaxPods int
	// Reserved is taken off the capacity to give allocatable.
	Reserved corev1.ResourceList
	// Version is the program's version, told as the container runtime's.
	Version string
	// KubeletVersion is told as the kubelet's: tools read it as a semantic version. Empty is Version.
	KubeletVersion string
	// ProxyMode says which kernel load balancer the node's proxy uses ("ipvs", "nftables") and why; nil is unknown.
	ProxyMode func() (mode, message string)
	// LeaseInterval between renewals; 0 is 10 s.
	LeaseInterval time.Duration
	// Disk says when the disk is too full, and which images then go. Zero fields are the kubelet's.
	Disk DiskPolicy
	// ParallelStarts bounds how many containers are started at once; 0 is four a CPU.
	ParallelStarts int

	Source Source
	Sink   Sink
	Log    *slog.Logger
}

// Validate lists all faults of the configuration, or returns nil.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("node config: "+format, a...)) }
	if c.NodeName == "" || c.NodeName != strings.ToLower(c.NodeName) {
		bad("NodeName %q: want a DNS name in lower case", c.NodeName)
	}
	for name, dir := range map[string]string{"Root": c.Root, "RunDir": c.RunDir} {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			bad("%s %q: want an absolute path below /", name, dir)
		}
	}
	if !strings.HasPrefix(c.CgroupPrefix, "/") || len(c.CgroupPrefix) < 2 {
		bad("CgroupPrefix %q: want a path such as /reconcile-n1", c.CgroupPrefix)
	}
	if len(c.Bridge) > 15 {
		bad("Bridge %q: a link's name has at most 15 bytes", c.Bridge)
	}
	if c.InternalIP() == (netip.Addr{}) {
		bad("Addresses: want at least one InternalIP")
	}
	if c.ClusterCIDR.IsValid() && !c.ClusterCIDR.Addr().Is4() {
		bad("ClusterCIDR %s: want an IPv4 network", c.ClusterCIDR)
	}
	errs = append(errs, c.Disk.Validate())
	if c.Source == nil || c.Sink == nil || c.Log == nil {
		bad("Source, Sink and Log must be set")
	}
	return errors.Join(errs...)
}

// InternalIP is the first InternalIP of Addresses, or the zero address.
func (c Config) InternalIP() netip.Addr {
	for _, a := range c.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			return ip
		}
	}
	return netip.Addr{}
}

// withDefaults returns c with what may be left empty filled in.
func (c Config) withDefaults() Config {
	if c.Bridge == "" {
		c.Bridge = "cbr0"
	}
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = netip.MustParsePrefix("10.244.0.0/16")
	}
	if !c.ClusterDNS.IsValid() {
		c.ClusterDNS = netip.MustParseAddr("10.96.0.10")
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if !c.APIService.IsValid() {
		c.APIService = netip.MustParseAddrPort("10.96.0.1:443")
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.LeaseInterval == 0 {
		c.LeaseInterval = 10 * time.Second
	}
	c.Disk = c.Disk.withDefaults()
	return c
}
