package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"reconcile/object"
)

// Source is where the server learns of services, endpoint slices and pods.
type Source interface {
	// Follow calls r with the whole selection and then with each change until ctx ends. It retries by itself when servers are
	// away, and returns only ctx's error or one that retrying cannot cure.
	Follow(ctx context.Context, sel object.Selection, r object.Receiver) error
}

// Config says what a server answers and where.
type Config struct {
	// Listen are the addresses to answer on, over UDP and TCP ("10.96.0.10:53"). They need not be on the machine yet
	// (IP_FREEBIND): the proxy's route for the service range makes them local.
	Listen []netip.AddrPort
	// Domain is the cluster's domain without a final dot; "cluster.local" if empty.
	Domain string
	// ResolvConf is the file whose nameservers answer all other names; "/etc/resolv.conf" if empty. It is read again when it changes.
	ResolvConf string
	// Source gives the objects. Required.
	Source Source
	// StateFile keeps the last table of names over restarts; "" keeps none. Its folder must exist.
	StateFile string
	// Log is required.
	Log *slog.Logger
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if len(c.Listen) == 0 {
		errs = append(errs, errors.New("dns: Listen is empty"))
	}
	for _, a := range c.Listen {
		if !a.IsValid() {
			errs = append(errs, fmt.Errorf("dns: listen address %q is not ADDRESS:PORT", a))
		}
	}
	if strings.HasPrefix(c.Domain, ".") || strings.HasSuffix(c.Domain, ".") {
		errs = append(errs, fmt.Errorf("dns: domain %q begins or ends with a dot", c.Domain))
	}
	if c.Source == nil {
		errs = append(errs, errors.New("dns: Source is missing"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("dns: Log is missing"))
	}
	return errors.Join(errs...)
}
