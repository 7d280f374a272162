package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"reconcile/client"
	"reconcile/dns"
	"reconcile/pki"
)

// DNSConfig is what the agent tells the DNS process, as a JSON file.
type DNSConfig struct {
	Listen    netip.AddrPort `json:"listen"`
	Domain    string         `json:"domain"`
	StateFile string         `json:"stateFile"`
	Servers   []string       `json:"servers"`
	CAFile    string         `json:"caFile"`
	CertFile  string         `json:"certFile"`
	KeyFile   string         `json:"keyFile"`
	// Lock is the file that the process holds while it lives, and Version what it writes there.
	Lock    string `json:"lock"`
	Version string `json:"version"`
}

// RunDNS is the DNS process: it answers until ctx ends, whether or not the agent or any server is there.
func RunDNS(ctx context.Context, path string, log *slog.Logger) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("start DNS: %w", err)
	}
	var cfg DNSConfig
	if err := json.Unmarshal(b, &cfg); err != nil {
		return fmt.Errorf("start DNS: read %s: %w", path, err)
	}
	lock, err := HoldLock(cfg.Lock, cfg.Version)
	if err != nil {
		return fmt.Errorf("start DNS: %w", err)
	}
	// Freed last: another DNS process must not begin to listen before this one has ended.
	defer lock.Close()
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("start DNS: load the node's certificate: %w", err)
	}
	ca, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return fmt.Errorf("start DNS: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("start DNS: %s holds no certificate", cfg.CAFile)
	}
	api, err := client.New(client.Config{Servers: cfg.Servers, TLS: pki.ClientTLS(pki.Identity{Cert: cert}, pool, ""), UserAgent: "reconcile-dns", Log: log})
	if err != nil {
		return err
	}
	defer api.Close()
	return dns.Run(ctx, dns.Config{Listen: []netip.AddrPort{cfg.Listen}, Domain: cfg.Domain, Source: api, StateFile: cfg.StateFile, Log: log})
}
