package agent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"reconcile/client"
	"reconcile/node"
	"reconcile/node/network"
	"reconcile/node/stream"
	"reconcile/pki"
	"reconcile/proxy"
)

// Bridge is the name of the pods' bridge.
const Bridge = "cbr0"

// RunDir is where the agent of a data directory keeps what need not survive a reboot.
func RunDir(dataDir string) string { return "/run/reconcile-" + digest([]byte(dataDir))[:8] }

// CgroupPrefix is the branch of the cgroup tree of the agent of a data directory.
func CgroupPrefix(dataDir string) string { return "/reconcile-" + digest([]byte(dataDir))[:8] }

// NodeDir is where the agent of a data directory keeps images, containers and volumes.
func NodeDir(dataDir string) string { return filepath.Join(dataDir, "node") }

// Agent runs one machine. Make one with New.
type Agent struct {
	cfg Config
	api *client.Client
}

// Free fails if the machine runs the containers of another data directory. It changes nothing.
func Free(dataDir string) error {
	err := network.CheckOwner(Bridge, NodeDir(dataDir))
	var owned *network.OwnedError
	if !errors.As(err, &owned) {
		return err
	}
	other := filepath.Dir(owned.Owner)
	return fmt.Errorf("this machine runs the containers of %s (%w): go on with --data-dir %s, or stop its `reconcile up` and remove it by `reconcile reset --data-dir %s --yes`",
		other, err, other, other)
}

// New checks the configuration. It touches nothing.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cfg.CA) {
		return nil, errors.New("configure the agent: the authority's certificate is no PEM")
	}
	api, err := client.New(client.Config{Servers: cfg.Servers, TLS: pki.ClientTLS(cfg.Identity, pool, ""), UserAgent: "reconcile-agent/" + cfg.Version, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, api: api}, nil
}

// Run keeps the machine as the cluster wants it until ctx ends, and returns after everything of the agent has. Containers, rules and the
// DNS process stay.
func (a *Agent) Run(ctx context.Context) (err error) {
	defer a.api.Close()
	for _, dir := range []string{a.cfg.RunDir, NodeDir(a.cfg.DataDir)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("start the agent: %w", err)
		}
	}
	kernel, why, err := proxy.Probe(a.cfg.Log.With("part", "proxy"))
	if err != nil {
		return err
	}
	// The proxy has stopped using it by then.
	defer func() { err = errors.Join(err, kernel.Close()) }()
	a.cfg.Log.Info(why)
	pr, err := proxy.New(proxy.Config{
		NodeName: a.cfg.NodeName, ClusterCIDR: a.cfg.PodCIDR, ServiceCIDR: a.cfg.ServiceCIDR, DNSAddr: a.cfg.DNS,
		Source: a.api, Kernel: kernel, Log: a.cfg.Log.With("part", "proxy"),
	})
	if err != nil {
		return err
	}
	cfg := a.nodeConfig(kernel.Name(), why)
	edges, err := node.OpenEdges(cfg)
	if err != nil {
		return err
	}
	// Containers stay; only the watch over them ends.
	defer func() { err = errors.Join(err, edges.Runtime.Close()) }()
	n, err := node.New(cfg, edges)
	if err != nil {
		return err
	}
	names, err := a.dnsChild()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Run(gctx) })
	g.Go(func() error { return pr.Run(gctx) })
	g.Go(func() error { return names.run(gctx) })
	g.Go(func() error { return a.streams(gctx, n) })
	return g.Wait()
}

// nodeConfig is what the pods' part of the agent needs. kernel and why tell the node's status how services are balanced.
func (a *Agent) nodeConfig(kernel, why string) node.Config {
	return node.Config{
		NodeName: a.cfg.NodeName, Root: NodeDir(a.cfg.DataDir), RunDir: a.cfg.RunDir, CgroupPrefix: a.cfg.CgroupPrefix, Bridge: Bridge,
		Addresses: a.cfg.Addresses, ClusterCIDR: a.cfg.PodCIDR, Masquerade: true, ClusterDNS: a.cfg.DNS, ClusterDomain: a.cfg.Domain,
		APIService: netip.AddrPortFrom(a.cfg.API, 443), StreamPort: int(a.cfg.StreamAddr.Port()), Labels: a.cfg.Labels, Version: a.cfg.Version, KubeletVersion: a.cfg.KubeletVersion,
		ProxyMode: func() (string, string) { return kernel, why }, Source: a.api, Sink: a.api, Log: a.cfg.Log.With("part", "node"),
	}
}

// streams serves logs, exec and attach to the servers.
func (a *Agent) streams(ctx context.Context, backend stream.Backend) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.StreamAddr.String())
	if err != nil {
		return fmt.Errorf("listen for logs and exec on %s: %w; choose another port with --stream-port", a.cfg.StreamAddr, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.cfg.CA)
	return stream.Run(ctx, stream.Config{Listener: ln, TLS: pki.AgentTLS(a.cfg.Identity, pool), Backend: backend, Log: a.cfg.Log.With("part", "stream")})
}

func (a *Agent) dnsLock() string { return filepath.Join(a.cfg.RunDir, "dns.lock") }

// dnsChild is the DNS process of this machine.
func (a *Agent) dnsChild() (*child, error) {
	cfg := DNSConfig{
		Listen: netip.AddrPortFrom(a.cfg.DNS, 53), Domain: a.cfg.Domain, StateFile: filepath.Join(NodeDir(a.cfg.DataDir), "dns.state"),
		Servers: a.cfg.Servers, CAFile: a.cfg.CAFile, CertFile: a.cfg.Identity.CertFile, KeyFile: a.cfg.Identity.KeyFile,
		Lock: a.dnsLock(),
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Version, err = childVersion(a.cfg.Executable, b); err != nil {
		return nil, err
	}
	if b, err = json.MarshalIndent(cfg, "", "  "); err != nil {
		return nil, err
	}
	path := filepath.Join(a.cfg.RunDir, "dns.json")
	if err := pki.WriteFile(path, b); err != nil {
		return nil, err
	}
	return &child{
		name: "dns", lock: cfg.Lock, version: cfg.Version, argv: []string{a.cfg.Executable, "dns", "--config", path},
		output: logFile(NodeDir(a.cfg.DataDir), "dns"), log: a.cfg.Log,
	}, nil
}
