package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"reconcile/raftstore/seal"
	"reconcile/scheduler"
)

// Config is what a member needs.
type Config struct {
	// DataDir holds everything the member keeps. Absolute.
	DataDir string
	// Listen is HOST:PORT of the shared port; Advertise is HOST:PORT under which the other servers and the agents reach it.
	Listen, Advertise string
	// EtcdListen is HOST:PORT of etcd's v3 API; empty serves none. EtcdRegistryWrites lets administrators write objects through it.
	EtcdListen         string
	EtcdRegistryWrites bool
	// Hosts are further names and addresses that the certificate is to hold.
	Hosts []string
	// Name is the member's name in logs, in its certificate and in its lease; by default the machine's name.
	Name string
	// Join is HOST:PORT of a member of an existing cluster; empty starts a cluster of one, or goes on with what DataDir holds.
	Join string
	// LogStore is the kind of raft's log in a new data directory: raftstore.LogWAL (the default) or raftstore.LogBoltDB.
	LogStore string
	// Key is where the key is kept that wraps the keys by which a new data directory's store is encrypted. Nil: a new one is not encrypted.
	Key seal.Source
	// ServiceCIDR is the range of services' addresses, PodCIDR that of pods'.
	ServiceCIDR, PodCIDR netip.Prefix
	// Extensions are plugins of the scheduler besides Kubernetes' own, which its profiles may name. All servers of a cluster must have the same: each
	// may lead, and each explains and forecasts.
	Extensions []*scheduler.Extension
	// Version is the program's own version.
	Version string
	// Log must be set.
	Log *slog.Logger
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("the data directory %q is not absolute", c.DataDir))
	}
	for name, addr := range map[string]string{"listening address": c.Listen, "advertised address": c.Advertise} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("the %s %q is not HOST:PORT", name, addr))
		}
	}
	if c.EtcdListen != "" {
		if _, _, err := net.SplitHostPort(c.EtcdListen); err != nil {
			errs = append(errs, fmt.Errorf("the address of etcd's API %q is not HOST:PORT", c.EtcdListen))
		}
	}
	if c.Join != "" {
		if _, _, err := net.SplitHostPort(c.Join); err != nil {
			errs = append(errs, fmt.Errorf("the server to join %q is not HOST:PORT", c.Join))
		}
	}
	if c.Name == "" {
		errs = append(errs, errors.New("the member has no name"))
	}
	for name, p := range map[string]netip.Prefix{"services": c.ServiceCIDR, "pods": c.PodCIDR} {
		if !p.IsValid() || !p.Addr().Is4() {
			errs = append(errs, fmt.Errorf("the range of %s %q is not an IPv4 prefix such as 10.96.0.0/16", name, p))
		}
	}
	if c.ServiceCIDR.IsValid() && c.PodCIDR.IsValid() && c.ServiceCIDR.Overlaps(c.PodCIDR) {
		errs = append(errs, fmt.Errorf("the ranges of services %s and pods %s overlap", c.ServiceCIDR, c.PodCIDR))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("there is no log"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	return nil
}
