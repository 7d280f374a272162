package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"reconcile/admission"
	"reconcile/agent"
	"reconcile/pki"
	"reconcile/raftstore/seal"
	"reconcile/server"
)

// machineFlags are the flags of up, server and agent.
type machineFlags struct {
	server, agent bool

	dataDir, apiAddr, advertise, nodeName, join string
	logStore                                    string
	keys                                        keyFlags
	serviceCIDR, podCIDR, domain, logLevel      string
	servers                                     []string
	streamPort                                  uint16
	etcdAddr                                    string
	etcdWrites                                  bool
}

func (m *machineFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.dataDir, "data-dir", "", "folder that holds everything this machine keeps (required)")
	f.StringVar(&m.advertise, "advertise-addr", "", "IP address under which other machines reach this one (default: the first one that is not loopback)")
	f.StringVar(&m.nodeName, "node-name", "", "name of this machine (default: its host name)")
	f.StringVar(&m.serviceCIDR, "service-cidr", "10.96.0.0/16", "addresses of services")
	f.StringVar(&m.podCIDR, "pod-cidr", "10.244.0.0/16", "addresses of pods; each node gets a /24 of it")
	f.StringVar(&m.logLevel, "log-level", "info", "debug, info, warn or error")
	if m.server {
		f.StringVar(&m.apiAddr, "api-addr", "0.0.0.0:6443", "HOST:PORT of the one port: API, git, and the servers' own traffic")
		f.StringVar(&m.etcdAddr, "etcd-addr", "", "HOST:PORT of etcd's v3 API, for etcdctl and programs that use etcd (default: not served)")
		f.BoolVar(&m.etcdWrites, "etcd-allow-registry-writes", false, "let administrators write the cluster's objects through etcd's API")
		f.StringVar(&m.join, "join", "", "HOST:PORT of a server of an existing cluster; DATA-DIR/pki must hold that cluster's ca.crt and ca.key")
		f.StringVar(&m.logStore, "log-store", "wal", "how a new data directory keeps raft's log: wal or boltdb; an existing one keeps its own")
		m.keys.bind(f)
		f.BoolVar(&m.keys.encrypt, "encrypt", true, "encrypt the store of a new data directory; an existing one stays as it is")
	} else {
		f.StringSliceVar(&m.servers, "servers", nil, "the servers' URLs (required)")
		if err := cmd.MarkFlagRequired("servers"); err != nil {
			panic(err)
		}
	}
	if m.agent {
		f.StringVar(&m.domain, "cluster-domain", "cluster.local", "domain of the names of services")
		f.Uint16Var(&m.streamPort, "stream-port", 10250, "port of this machine's HTTPS endpoint for logs and exec")
	}
	if err := cmd.MarkFlagRequired("data-dir"); err != nil {
		panic(err)
	}
}

// machine is the flags, read and completed.
type machine struct {
	dataDir, executable string
	listen              string
	advertise           netip.AddrPort
	// nodeIP is the address of the machine as a node.
	nodeIP               netip.Addr
	nodeName, join       string
	logStore             string
	key                  seal.Source
	serviceCIDR, podCIDR netip.Prefix
	domain               string
	streamPort           uint16
	servers              []string
	etcdAddr             string
	etcdWrites           bool
	log                  *slog.Logger
}

func (m *machineFlags) config() (*machine, error) {
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	out := &machine{listen: m.apiAddr, join: m.join, logStore: m.logStore, domain: m.domain, streamPort: m.streamPort, servers: m.servers, nodeName: m.nodeName, etcdAddr: m.etcdAddr, etcdWrites: m.etcdWrites}
	var err error
	if out.dataDir, err = filepath.Abs(m.dataDir); err != nil {
		note(err)
	}
	if m.server {
		if out.key, err = m.keys.source(out.dataDir); err != nil {
			note(err)
		}
	}
	if out.executable, err = os.Executable(); err != nil {
		note(err)
	}
	if out.serviceCIDR, err = netip.ParsePrefix(m.serviceCIDR); err != nil {
		note(fmt.Errorf("--service-cidr %q: want a prefix such as 10.96.0.0/16", m.serviceCIDR))
	}
	if out.podCIDR, err = netip.ParsePrefix(m.podCIDR); err != nil {
		note(fmt.Errorf("--pod-cidr %q: want a prefix such as 10.244.0.0/16", m.podCIDR))
	}
	if out.nodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			note(err)
		}
		out.nodeName = strings.ToLower(host)
	}
	if out.advertise, err = m.address(); err != nil {
		note(err)
	}
	if out.nodeIP, err = nodeAddress(out.advertise.Addr()); err != nil {
		note(err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(m.logLevel)); err != nil {
		note(fmt.Errorf("--log-level %q: want debug, info, warn or error", m.logLevel))
	}
	out.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return out, errors.Join(errs...)
}

// needRoot complains about a user who may not make containers. A server alone needs no rights.
func (m *machineFlags) needRoot(uid int) error {
	if m.agent && uid != 0 {
		return errors.New("containers, networks and service rules need root: run this as root, for example with sudo")
	}
	return nil
}

// address is where others reach this machine: as told, else the listening address, else the machine's first address.
func (m *machineFlags) address() (netip.AddrPort, error) {
	port := netip.AddrPort{}
	if m.server {
		host, p, err := net.SplitHostPort(m.apiAddr)
		if err != nil {
			return port, fmt.Errorf("--api-addr %q: want HOST:PORT such as 0.0.0.0:6443", m.apiAddr)
		}
		if host == "" {
			host = "0.0.0.0"
		}
		if port, err = netip.ParseAddrPort(net.JoinHostPort(host, p)); err != nil {
			return port, fmt.Errorf("--api-addr %q: want an IP address and a port", m.apiAddr)
		}
	}
	if m.advertise != "" {
		a, err := netip.ParseAddr(m.advertise)
		if err != nil {
			return port, fmt.Errorf("--advertise-addr %q: want an IP address", m.advertise)
		}
		return netip.AddrPortFrom(a, port.Port()), nil
	}
	if port.Addr().IsValid() && !port.Addr().IsUnspecified() {
		return port, nil
	}
	a, err := firstAddress()
	return netip.AddrPortFrom(a, port.Port()), err
}

// nodeAddress is the machine's address as a node: the one under which others reach it. A loopback address, under which a user may want
// the API alone, is none: it cannot be the source of a connection to a pod.
func nodeAddress(advertise netip.Addr) (netip.Addr, error) {
	if advertise.IsLoopback() {
		return firstAddress()
	}
	return advertise, nil
}

// firstAddress is the first IPv4 address of an interface that is up, other than loopback; loopback if there is none.
func firstAddress() (netip.Addr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || i.Name == "cbr0" {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return netip.Addr{}, err
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr(), nil
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// serverConfig is the server's part of the flags.
func (m *machine) serverConfig() server.Config {
	return server.Config{
		DataDir: m.dataDir, Listen: m.listen, Advertise: m.advertise.String(), Name: m.nodeName, Join: m.join, LogStore: m.logStore, Key: m.key,
		ServiceCIDR: m.serviceCIDR, PodCIDR: m.podCIDR, Version: version, Log: m.log,
		EtcdListen: m.etcdAddr, EtcdRegistryWrites: m.etcdWrites,
	}
}

// printEtcd writes the certificates for etcd's API into the data directory and says how etcdctl uses them.
func (m *machine) printEtcd(s *server.Server) error {
	url := s.EtcdURL()
	if url == "" {
		return nil
	}
	admin, err := s.Keys().Identity(pki.AdminSpec())
	if err != nil {
		return err
	}
	plain, err := s.Keys().Identity(server.EtcdClientSpec())
	if err != nil {
		return err
	}
	fmt.Printf("etcd    %s\nexport ETCDCTL_ENDPOINTS=%s ETCDCTL_CACERT=%s ETCDCTL_CERT=%s ETCDCTL_KEY=%s\n", url, url, s.Keys().CertFile(), admin.CertFile, admin.KeyFile)
	fmt.Printf("# for programs that must not read the cluster's objects: ETCDCTL_CERT=%s ETCDCTL_KEY=%s\n", plain.CertFile, plain.KeyFile)
	return nil
}

// runServer runs a server and, if wanted, an agent, until ctx ends or one of them fails.
func runServer(ctx context.Context, m *machine, withAgent bool) error {
	began := time.Now()
	s, err := server.Open(ctx, m.serverConfig())
	if err != nil {
		return err
	}
	url := "https://" + m.advertise.String()
	var a *agent.Agent
	if withAgent {
		if a, err = m.agent([]string{url}); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	files, err := m.writeFiles(s.Keys(), url)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	fmt.Printf("api     %s\ngit     %s\nkubectl reconcile kubectl --kubeconfig %s\n", files.APIURL, files.GitURL, filepath.Join(m.dataDir, kubeconfigName))
	if err := m.printEtcd(s); err != nil {
		return errors.Join(err, s.Close())
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.Run(gctx, func() {
			fmt.Printf("ready in %d ms: add the remote with `reconcile remote add --data-dir %s cluster`, then git push cluster main\n", time.Since(began).Milliseconds(), m.dataDir)
		})
	})
	if a != nil {
		g.Go(func() error { return a.Run(gctx) })
	}
	return unlessStopped(ctx, g.Wait())
}

// unlessStopped is nil if ctx has ended and that is all that err says: a stop that was asked for is no failure.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// clusterInfo is cluster.json.
type clusterInfo struct {
	APIURL  string `json:"apiURL"`
	GitURL  string `json:"gitURL"`
	CAFile  string `json:"caFile"`
	Version string `json:"version"`
}

func (m *machine) writeFiles(keys *pki.Authority, url string) (clusterInfo, error) {
	info := clusterInfo{APIURL: url, GitURL: url + "/git/cluster.git", CAFile: keys.CertFile(), Version: version}
	admin, err := keys.Identity(pki.AdminSpec())
	if err != nil {
		return info, err
	}
	k := pki.Kubeconfig{Cluster: "reconcile", User: "admin", Servers: []string{url}, CA: keys.PEM(), Identity: admin}
	if err := k.Write(filepath.Join(m.dataDir, kubeconfigName)); err != nil {
		return info, err
	}
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return info, err
	}
	return info, pki.WriteFile(filepath.Join(m.dataDir, clusterFileName), append(b, '\n'))
}

// agent makes this machine's agent with a certificate of its own.
func (m *machine) agent(servers []string) (*agent.Agent, error) {
	keys, err := pki.Open(pki.Config{Dir: filepath.Join(m.dataDir, "pki")})
	if err != nil {
		return nil, err
	}
	cfg := m.agentConfig(servers)
	if cfg.Identity, err = keys.Identity(pki.NodeSpec(m.nodeName, []string{m.nodeIP.String()})); err != nil {
		return nil, err
	}
	cfg.CAFile, cfg.CA = keys.CertFile(), keys.PEM()
	return agent.New(cfg)
}

// agentConfig is the agent's part of the flags, without keys.
func (m *machine) agentConfig(servers []string) agent.Config {
	ip, ranges := m.nodeIP, admission.Ranges{Services: m.serviceCIDR}
	return agent.Config{
		NodeName: m.nodeName, DataDir: m.dataDir, RunDir: agent.RunDir(m.dataDir), CgroupPrefix: agent.CgroupPrefix(m.dataDir),
		Servers:   servers,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip.String()}, {Type: corev1.NodeHostName, Address: m.nodeName}},
		PodCIDR:   m.podCIDR, ServiceCIDR: m.serviceCIDR, DNS: ranges.DNS(), API: ranges.API(), Domain: m.domain,
		StreamAddr: netip.AddrPortFrom(ip, m.streamPort), Executable: m.executable, Version: version,
		KubeletVersion: server.KubernetesVersion(version), Log: m.log,
	}
}
