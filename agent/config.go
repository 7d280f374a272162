package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"reconcile/pki"
)

// Config is what makes one machine's agent differ from another's. Several may run on one host, each in a network namespace of its
// own, if DataDir, RunDir, CgroupPrefix and NodeName differ.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	// DataDir keeps what must survive a reboot; RunDir what need not, and its path must be short. Both absolute.
	DataDir, RunDir string
	// CgroupPrefix is the agent's branch of the cgroup tree.
	CgroupPrefix string
	// Servers are the API's URLs.
	Servers []string
	// CAFile holds the authority's certificate; Identity is the node's, client and server in one.
	CAFile   string
	CA       []byte
	Identity pki.Identity
	// Addresses are the node's own; the first InternalIP is the one that others reach it at.
	Addresses []corev1.NodeAddress
	// PodCIDR is the range of all pods, ServiceCIDR that of services; DNS is the address of the cluster's DNS and API that of
	// default/kubernetes.
	PodCIDR, ServiceCIDR netip.Prefix
	DNS, API             netip.Addr
	// Domain is the cluster's domain ("cluster.local").
	Domain string
	// StreamAddr is where the machine's HTTPS endpoint for logs and streams listens (":10250").
	StreamAddr netip.AddrPort
	// Executable is the program whose hidden subcommand is the DNS process.
	Executable string
	// Version is the program's version, KubeletVersion what is told as the kubelet's; empty is Version.
	Version, KubeletVersion string
	// Labels are the node's own labels.
	Labels map[string]string
	// Log must be set.
	Log *slog.Logger
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.NodeName == "" {
		errs = append(errs, errors.New("the node has no name"))
	}
	for name, dir := range map[string]string{"data directory": c.DataDir, "run directory": c.RunDir, "cgroup": c.CgroupPrefix, "program": c.Executable} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("the %s %q is not absolute", name, dir))
		}
	}
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("there is no server"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("there is no log"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure the agent: %w", err)
	}
	return nil
}

// digest is a short name for content.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
