package ipvs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reconcile/proxy/internal/host"
	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// Times of a backend that only finishes old connections.
const (
	// drainPoll is how often it is looked at.
	drainPoll = 5 * time.Second
	// drainLimit is how long it may take; then its connections are broken. It begins anew when the process does.
	drainLimit = time.Hour
)

// scheduler is IPVS' round robin, the one that spreads best with equal weights.
const scheduler = ipvs.RoundRobin

// flagPersistent is IP_VS_SVC_F_PERSISTENT: a client stays with its destination for the service's timeout.
const flagPersistent = 0x1

// Config says how the kernel is opened.
type Config struct {
	// Log is required.
	Log *slog.Logger
}

// Kernel balances by IPVS in one network namespace. It implements proxy.Kernel.
type Kernel struct {
	log   *slog.Logger
	sock  *socket
	conn  *nftables.Conn
	host  *host.Host
	guard guard
	facts model.Facts
	// mirror is what the kernel has: nil when that is not known, before the first List and after a failure.
	mirror *mirror
}

// mirror is what the kernel has.
type mirror struct {
	state    model.State
	classes  map[model.Frontend]class
	external []netip.Addr
	draining map[drain]time.Time
	// fresh tells that the kernel was read and nothing sent since.
	fresh bool
}

// drain is a backend that only finishes old connections.
type drain struct {
	frontend model.Frontend
	backend  model.Backend
}

// Open connects to IPVS of the calling thread's network namespace, loading the kernel's module if it can. It changes nothing
// else. It fails where the kernel has no IPVS.
func Open(cfg Config) (*Kernel, error) {
	family, err := findFamily()
	if err != nil {
		return nil, err
	}
	sock, err := openSocket(family)
	if err != nil {
		return nil, err
	}
	conn, err := nft.Open()
	if err != nil {
		return nil, errors.Join(err, sock.close())
	}
	h, err := host.Open()
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting(), sock.close())
	}
	return &Kernel{log: cfg.Log, sock: sock, conn: conn, host: h, guard: newGuard()}, nil
}

// findFamily asks the kernel for the number of its family "IPVS".
func findFamily() (uint16, error) {
	f, err := netlink.GenlFamilyGet("IPVS")
	if err == nil {
		return f.ID, nil
	}
	// As on every kernel where IPVS is a module that nobody has used yet.
	if path, lookErr := exec.LookPath("modprobe"); lookErr == nil {
		if exec.Command(path, "-q", "ip_vs").Run() == nil {
			f, err = netlink.GenlFamilyGet("IPVS")
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return 0, errors.New("the kernel has no module ip_vs")
	}
	if err != nil {
		return 0, fmt.Errorf("ask the kernel for IPVS: %w", err)
	}
	return f.ID, nil
}

// Name implements proxy.Kernel.
func (k *Kernel) Name() string { return "ipvs" }

// Close implements proxy.Kernel.
func (k *Kernel) Close() error {
	k.host.Close()
	return errors.Join(k.conn.CloseLasting(), k.sock.close())
}

// sysctls are what IPVS needs. Those of net/ipv4/vs belong to the network namespace.
var sysctls = [...]struct{ name, value string }{
	{"net/ipv4/ip_forward", "1"},
	// Connections are tracked, so that they can be masqueraded.
	{"net/ipv4/vs/conntrack", "1"},
	// A client of a destination that has gone is told so, instead of hanging; its next packet finds another.
	{"net/ipv4/vs/expire_nodest_conn", "1"},
	// Affinity ends with the destination's weight; otherwise a draining one would get all its clients' new connections.
	{"net/ipv4/vs/expire_quiescent_template", "1"},
	// Service addresses are local on every node: only an interface that has an address answers for it on the wire.
	{"net/ipv4/conf/all/arp_ignore", "1"},
	{"net/ipv4/conf/all/arp_announce", "2"},
}

// Setup implements proxy.Kernel.
func (k *Kernel) Setup(_ context.Context, f model.Facts) error {
	for _, s := range sysctls {
		if err := host.Sysctl(s.name, s.value); err != nil {
			return err
		}
	}
	if err := host.FilterBridged(); err != nil {
		k.log.Warn("services work in part only", "error", err)
	}
	k.facts = f
	k.mirror = nil
	if err := k.host.LocalRoutes(k.ranges(nil), f.MainAddr()); err != nil {
		return err
	}
	if err := k.guard.queueFixed(k.conn, f); err != nil {
		return err
	}
	if err := k.conn.Flush(); err == nil {
		return nil
	}
	// A table of an older form cannot be changed into this one: replace it, in one batch. The services in it follow with the
	// next difference.
	k.guard = newGuard()
	k.conn.AddTable(k.guard.table)
	k.conn.DelTable(k.guard.table)
	if err := k.guard.queueFixed(k.conn, f); err != nil {
		return err
	}
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("make the nftables table %s: %w", TableName, err)
	}
	return nil
}

// ranges are the addresses to make local: all ClusterIPs, and each external address.
func (k *Kernel) ranges(external []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	if k.facts.ServiceCIDR.IsValid() {
		out = append(out, k.facts.ServiceCIDR)
	}
	for _, a := range external {
		out = append(out, netip.PrefixFrom(a, 32))
	}
	return out
}

// List implements proxy.Kernel.
func (k *Kernel) List(context.Context) (model.State, error) {
	m, err := k.read()
	if err != nil {
		return nil, err
	}
	if k.mirror != nil {
		for d, t := range k.mirror.draining {
			if _, still := m.draining[d]; still {
				m.draining[d] = t
			}
		}
	}
	k.mirror = m
	return maps.Clone(m.state), nil
}

// read reads services and destinations back, and the attributes that the guard keeps.
func (k *Kernel) read() (*mirror, error) {
	classes, err := k.guard.read(k.conn)
	if err != nil {
		return nil, err
	}
	services, err := k.sock.services()
	if err != nil {
		return nil, fmt.Errorf("list the virtual services: %w", err)
	}
	m := &mirror{state: make(model.State, len(services)), classes: classes, draining: make(map[drain]time.Time)}
	deadline := time.Now().Add(drainLimit)
	for _, s := range services {
		if s.FWMark != 0 || s.AddressFamily != unix.AF_INET {
			continue // not ours
		}
		f := frontendOf(s)
		c, whole := classes[f]
		if !whole {
			// Left behind by a process that died between the two tables: any other attribute makes the difference write it anew.
			c = class{masq: model.MasqueradeNever, empty: model.Drop}
		}
		svc := model.Service{Frontend: f, Attributes: model.Attributes{Masquerade: c.masq, Empty: c.empty}}
		if s.Flags&flagPersistent != 0 {
			svc.Affinity = time.Duration(s.Timeout) * time.Second
		}
		dests, err := k.sock.dests(s)
		if err != nil {
			return nil, fmt.Errorf("list the destinations of %s: %w", f, err)
		}
		for _, d := range dests {
			b := backendOf(d)
			if d.Weight == 0 {
				m.draining[drain{f, b}] = deadline
				continue
			}
			svc.Backends = append(svc.Backends, b)
		}
		slices.SortFunc(svc.Backends, model.Backend.Compare)
		m.state[f] = svc
	}
	// What the external set and the routes hold is not read: the next change writes both.
	m.external, m.fresh = []netip.Addr{{}}, true
	return m, nil
}

// Apply implements proxy.Kernel. The guard is told of new services before they are served, and of old ones after.
func (k *Kernel) Apply(ctx context.Context, d model.Delta) error {
	if k.mirror == nil {
		if _, err := k.List(ctx); err != nil {
			return err
		}
	}
	messages, of, err := k.mirror.plan(d, time.Now())
	if err == nil {
		err = k.send(messages, of)
	}
	if err != nil {
		k.mirror = nil
		return err
	}
	return k.forgetUDP(d)
}

// send does what was planned.
func (k *Kernel) send(messages []message, of []model.Op) error {
	m := k.mirror
	have, want := m.touched(of)
	external := m.external
	if m.fresh || slices.ContainsFunc(of, func(op model.Op) bool { return k.isExternal(op.Frontend.Addr) }) {
		external = k.external()
	}
	// First what comes: the union of both, with the new form of what changed.
	union := maps.Clone(have)
	maps.Copy(union, want)
	if err := k.guard.set(k.conn, have, union, m.external, external); err != nil {
		return err
	}
	if !slices.Equal(external, m.external) {
		if err := k.host.LocalRoutes(k.ranges(external), k.facts.MainAddr()); err != nil {
			return err
		}
	}
	failed, err := k.sock.do(messages)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range failed {
		errs = append(errs, fmt.Errorf("%s: %w", of[f.index], f.err))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := k.guard.set(k.conn, union, want, external, external); err != nil {
		return err
	}
	for f := range have {
		delete(m.classes, f)
	}
	maps.Copy(m.classes, want)
	m.external, m.fresh = external, false
	return nil
}

// touched are the classes that the guard has and shall have, of the services that operations are about; of all services after
// the kernel was read, when the guard may hold what no service needs.
func (m *mirror) touched(of []model.Op) (have, want map[model.Frontend]class) {
	have, want = make(map[model.Frontend]class), make(map[model.Frontend]class)
	note := func(f model.Frontend) {
		if c, ok := m.classes[f]; ok {
			have[f] = c
		}
		if s, ok := m.state[f]; ok {
			want[f] = classOf(s)
		}
	}
	for _, op := range of {
		note(op.Frontend)
	}
	if m.fresh {
		for f := range m.classes {
			note(f)
		}
		for f := range m.state {
			note(f)
		}
	}
	return have, want
}

// isExternal tells of a service address whether it is neither in the service range nor the node's own.
func (k *Kernel) isExternal(a netip.Addr) bool {
	return !k.facts.ServiceCIDR.Contains(a) && !slices.Contains(k.facts.NodeAddrs, a)
}

// external are the external addresses of all services.
func (k *Kernel) external() []netip.Addr {
	var out []netip.Addr
	for f := range k.mirror.state {
		if k.isExternal(f.Addr) {
			out = append(out, f.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// forgetUDP lets clients of changed UDP services be balanced anew when their backend has gone, or when there was none.
func (k *Kernel) forgetUDP(d model.Delta) error {
	changed := make(map[netip.AddrPort]model.Service)
	for _, op := range d {
		if f := op.Frontend; f.Proto == model.UDP {
			changed[netip.AddrPortFrom(f.Addr, f.Port)] = k.mirror.state[f]
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return k.host.ForgetUDP(func(f host.Flow) bool {
		s, ok := changed[f.To]
		return ok && !slices.Contains(s.Backends, f.Answers)
	})
}

// Drain implements proxy.Kernel.
func (k *Kernel) Drain(ctx context.Context) (time.Duration, error) {
	if k.mirror == nil {
		if _, err := k.List(ctx); err != nil {
			return 0, err
		}
	}
	now := time.Now()
	by := make(map[model.Frontend][]model.Backend)
	for d := range k.mirror.draining {
		by[d.frontend] = append(by[d.frontend], d.backend)
	}
	var messages []message
	var gone []drain
	for f, backends := range by {
		dests, err := k.sock.dests(serviceOf(f, model.Attributes{}))
		if err != nil {
			return 0, fmt.Errorf("look at the draining backends of %s: %w", f, err)
		}
		for _, d := range dests {
			b := backendOf(d)
			key := drain{f, b}
			if slices.Contains(backends, b) && (d.ActiveConnections == 0 || now.After(k.mirror.draining[key])) {
				messages = append(messages, message{cmd: cmdDelDest, service: serviceOf(f, model.Attributes{}), dest: destOf(b, 0)})
				gone = append(gone, key)
			}
		}
	}
	failed, err := k.sock.do(messages)
	if err != nil {
		return 0, err
	}
	if len(failed) > 0 {
		k.mirror = nil
		return 0, fmt.Errorf("remove the drained backend %s of %s: %w", gone[failed[0].index].backend, gone[failed[0].index].frontend, failed[0].err)
	}
	for _, d := range gone {
		k.log.Info("backend drained", "service", d.frontend, "backend", d.backend)
		delete(k.mirror.draining, d)
	}
	if len(k.mirror.draining) == 0 {
		return 0, nil
	}
	return drainPoll, nil
}

// Remove deletes all services, the table and the routes. It is for `reconcile reset`, not for the end of a process.
func (k *Kernel) Remove(ctx context.Context) error {
	have, err := k.List(ctx)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		err = k.Apply(ctx, model.Diff(have, nil))
	}
	k.mirror = nil
	k.conn.AddTable(k.guard.table)
	k.conn.DelTable(k.guard.table)
	return errors.Join(err, k.conn.Flush(), k.host.RemoveRoutes())
}
