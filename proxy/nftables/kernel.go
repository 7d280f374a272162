package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"reconcile/proxy/internal/host"
	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// Config says how the kernel is opened.
type Config struct {
	// Log is required.
	Log *slog.Logger
}

// Kernel balances by nftables in one network namespace. It implements proxy.Kernel.
type Kernel struct {
	log    *slog.Logger
	conn   *nftables.Conn
	host   *host.Host
	layout layout
	// mirror is what the kernel has: nil when that is not known, before the first List and after a failed batch.
	mirror *mirror
}

// Open connects to nf_tables of the calling thread's network namespace. It changes nothing. It fails where the kernel has none
// or the process may not use it.
func Open(cfg Config) (*Kernel, error) {
	conn, err := nft.Open()
	if err != nil {
		return nil, err
	}
	if _, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the kernel for its nftables tables: %w", err), conn.CloseLasting())
	}
	h, err := host.Open()
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	return &Kernel{log: cfg.Log, conn: conn, host: h, layout: newLayout()}, nil
}

// Programmed tells whether our table is there.
func (k *Kernel) Programmed() (bool, error) {
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("ask the kernel for its nftables tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }), nil
}

// Name implements proxy.Kernel.
func (k *Kernel) Name() string { return "nftables" }

// Close implements proxy.Kernel.
func (k *Kernel) Close() error {
	k.host.Close()
	return k.conn.CloseLasting()
}

// Setup implements proxy.Kernel.
func (k *Kernel) Setup(_ context.Context, f model.Facts) error {
	if err := host.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := host.FilterBridged(); err != nil {
		k.log.Warn("services work in part only", "error", err)
	}
	// Packets to a service's address are rewritten before routing when they come from a pod, but after it when they come from
	// this machine: then there must be a route, also on a machine without a default route.
	if err := k.host.LocalRoutes([]netip.Prefix{f.ServiceCIDR}, f.MainAddr()); err != nil {
		return err
	}
	// The pickers' rules are written again too: another version of this program may have written them otherwise.
	m := newMirror()
	if err := k.readChains(m); err != nil {
		return err
	}
	if err := k.layout.queueFixed(k.conn, f); err != nil {
		return err
	}
	for p := range m.pickers {
		k.layout.queuePicker(k.conn, p)
	}
	err := k.conn.Flush()
	if err == nil {
		return nil
	}
	// A table of an older form cannot be changed into this one: replace it, in one batch.
	k.log.Warn("the nftables table has another form and is replaced", "table", TableName, "error", err)
	k.mirror = nil
	k.layout = newLayout()
	k.conn.AddTable(k.layout.table)
	k.conn.DelTable(k.layout.table)
	if err := k.layout.queueFixed(k.conn, f); err != nil {
		return err
	}
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("make the nftables table %s: %w", TableName, err)
	}
	return nil
}

// List implements proxy.Kernel.
func (k *Kernel) List(context.Context) (model.State, error) {
	if there, err := k.Programmed(); err != nil || !there {
		k.mirror = nil
		return model.State{}, err
	}
	m, err := k.read()
	if err != nil {
		return nil, err
	}
	k.mirror = m
	return m.state(), nil
}

// Apply implements proxy.Kernel. All operations go into one batch: after an error none was done.
func (k *Kernel) Apply(ctx context.Context, d model.Delta) error {
	if k.mirror == nil {
		if _, err := k.List(ctx); err != nil {
			return err
		}
		if k.mirror == nil {
			return fmt.Errorf("there is no nftables table %s: Setup was not called", TableName)
		}
	}
	ch, err := k.mirror.plan(d)
	if err != nil {
		return err
	}
	if err := k.send(ch); err != nil {
		k.mirror = nil
		return fmt.Errorf("send %d operations to nftables in one batch: %w", len(d), err)
	}
	return k.forgetUDP(ch.udp)
}

// send queues a change and flushes it. Within the batch elements go before they come, so that a changed one is replaced; a chain
// comes before the first element that names it and goes after the last.
func (k *Kernel) send(ch *change) error {
	for _, p := range ch.newPickers {
		k.layout.queuePicker(k.conn, p)
	}
	for _, e := range []struct {
		set      *nftables.Set
		del, add []nftables.SetElement
	}{
		{k.layout.services, ch.services.del, ch.services.add},
		{k.layout.empty, ch.empty.del, ch.empty.add},
		{k.layout.backends, ch.backends.del, ch.backends.add},
		{k.layout.sticky, ch.sticky.del, ch.sticky.add},
	} {
		if err := nft.Delete(k.conn, e.set, e.del); err != nil {
			return err
		}
		if err := nft.Add(k.conn, e.set, e.add); err != nil {
			return err
		}
	}
	for _, p := range ch.oldPickers {
		k.conn.DelChain(&nftables.Chain{Name: p.name(), Table: k.layout.table})
	}
	return k.conn.Flush()
}

// forgetUDP lets clients of changed UDP services be balanced anew when the backend they speak to has gone, or when they were
// tracked while there was none.
func (k *Kernel) forgetUDP(changed []model.Frontend) error {
	if len(changed) == 0 {
		return nil
	}
	is := make(map[netip.AddrPort]*service, len(changed))
	for _, f := range changed {
		is[netip.AddrPortFrom(f.Addr, f.Port)] = k.mirror.services[f]
	}
	return k.host.ForgetUDP(func(f host.Flow) bool {
		s, ok := is[f.To]
		return ok && (s == nil || !slices.Contains(s.slots, f.Answers))
	})
}

// Drain implements proxy.Kernel. A connection is tracked with its backend, so it goes on by itself when the backend is no
// longer picked: there is nothing to wait for.
func (k *Kernel) Drain(context.Context) (time.Duration, error) { return 0, nil }

// Remove deletes the table and the route: the machine as it was before. It is for `reconcile reset`, not for the end of a process.
func (k *Kernel) Remove() error {
	k.mirror = nil
	k.conn.AddTable(k.layout.table)
	k.conn.DelTable(k.layout.table)
	return errors.Join(k.conn.Flush(), k.host.RemoveRoutes())
}

// udp is the protocol number that connection tracking is asked about.
const udp = model.Protocol(unix.IPPROTO_UDP)
