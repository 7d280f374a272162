package nftables

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// TableName is the name of the one table that is ours, in family ip. Its form is the number at the end.
const TableName = "reconcile-proxy"

// markBit is the bit of a packet's mark that asks for masquerading; it is kube-proxy's, so that people's rules know it.
const markBit = 0x4000

// Names of the chains that verdicts go to.
const (
	chainDrop       = "drop-it"
	chainMarkAll    = "mark-always"
	chainMarkOff    = "mark-off-cluster"
	chainServices   = "services"
	chainNoBackends = "no-backends"
)

// layout is the table's fixed part.
type layout struct {
	table *nftables.Table
	// services has (address, protocol, port) -> goto the chain that picks one of K backends.
	services *nftables.Set
	// backends has (address, protocol, port, slot) -> (address, port).
	backends *nftables.Set
	// empty has (address, protocol, port) -> reject or drop.
	empty *nftables.Set
	// hairpin has (pod, pod) for each address of this node's pods: nf_tables cannot compare two fields of a packet.
	hairpin *nftables.Set
	// sticky has (address, protocol, port, backend address, backend port) of services with affinity, so that a client is not
	// sent to a backend that has gone.
	sticky *nftables.Set
	// clients has (client, address, protocol, port) -> (address, port), filled by the kernel, with a timeout.
	clients *nftables.Set
}

func newLayout() layout {
	addr, proto, port := nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4}
	set := func(name string, s nftables.Set) *nftables.Set {
		s.Table, s.Name, s.Concatenation = t, name, true
		return &s
	}
	return layout{
		table:    t,
		services: set("services", nftables.Set{IsMap: true, KeyType: nft.Concat(addr, proto, port), DataType: nftables.TypeVerdict}),
		backends: set("backends", nftables.Set{IsMap: true, KeyType: nft.Concat(addr, proto, port, nftables.TypeMark), DataType: nft.Concat(addr, port)}),
		empty:    set("empty", nftables.Set{IsMap: true, KeyType: nft.Concat(addr, proto, port), DataType: nftables.TypeVerdict}),
		hairpin:  set("hairpin", nftables.Set{KeyType: nft.Concat(addr, addr)}),
		sticky:   set("sticky", nftables.Set{KeyType: nft.Concat(addr, proto, port, addr, port)}),
		clients: set("clients", nftables.Set{IsMap: true, KeyType: nft.Concat(addr, addr, proto, port), DataType: nft.Concat(addr, port),
			Dynamic: true, HasTimeout: true, Size: 1 << 20}),
	}
}

// queueFixed queues everything that does not depend on services. What exists is kept or replaced within the batch.
func (l layout) queueFixed(c *nftables.Conn, f model.Facts) error {
	c.AddTable(l.table)
	for _, s := range []*nftables.Set{l.services, l.backends, l.empty, l.hairpin, l.sticky, l.clients} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	l.chain(c, nft.ChainReject, nft.RejectRules()...)
	l.chain(c, chainDrop, []expr.Any{nft.Verdict(expr.VerdictDrop)})
	l.chain(c, chainMarkAll, nft.SetMark(markBit))
	l.chain(c, chainMarkOff, nft.Join(nft.LoadSource(nft.R0), nft.InPrefix(nft.R0, f.ClusterCIDR, false), nft.SetMark(markBit)))
	l.chain(c, chainServices, nft.Join(nft.LoadKey(nft.R0), nft.VerdictMap(l.services, nft.R0)))
	l.chain(c, chainNoBackends, nft.Join(nft.LoadKey(nft.R0), nft.VerdictMap(l.empty, nft.R0)))

	l.hook(c, "nat-prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest, []expr.Any{nft.Jump(chainServices)})
	l.hook(c, "nat-output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest, []expr.Any{nft.Jump(chainServices)})
	l.hook(c, "nat-postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource,
		nft.Join(nft.HasMark(markBit), nft.Masquerade()),
		nft.Join(nft.CtStatusHas(nft.CtDNAT), nft.LoadSource(nft.R0), nft.LoadDest(nft.R1), nft.In(l.hairpin, nft.R0), nft.Masquerade()))
	// What enters is rejected before it is routed: there may be no route to an external address.
	l.hook(c, "filter-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityFilter, []expr.Any{nft.Jump(chainNoBackends)})
	// What this machine sends to the service range comes in again by lo; rejected there, a UDP client learns of it by ICMP.
	l.hook(c, "filter-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, *nftables.ChainPriorityFilter,
		nft.Join(nft.LoadDest(nft.R0), nft.InPrefix(nft.R0, f.ServiceCIDR, true), nft.Verdict(expr.VerdictAccept)),
		[]expr.Any{nft.Jump(chainNoBackends)})
	l.hook(c, "filter-input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter, nft.Guard(f.ServiceCIDR, f.DNSAddr)...)

	c.FlushSet(l.hairpin)
	return nft.Add(c, l.hairpin, nft.Hairpins(f.PodCIDR))
}

// chain queues a chain without a hook and replaces its rules.
func (l layout) chain(c *nftables.Conn, name string, rules ...[]expr.Any) {
	nft.Fill(c, c.AddChain(&nftables.Chain{Name: name, Table: l.table}), rules)
}

// hook queues a chain that packets enter by themselves and replaces its rules. Its policy is accept.
func (l layout) hook(c *nftables.Conn, name string, kind nftables.ChainType, at *nftables.ChainHook, prio nftables.ChainPriority, rules ...[]expr.Any) {
	nft.Fill(c, c.AddChain(&nftables.Chain{Name: name, Table: l.table, Type: kind, Hooknum: at, Priority: &prio}), rules)
}

// picker is a chain that sends a connection to one of its service's backends, or rejects it where there are none. All services
// with as many backends and the same attributes share it: it has the service's address from the packet.
type picker struct {
	backends int
	masq     model.Masquerade
	empty    model.Empty
	affinity time.Duration
}

// name says all of the picker, so that a service's attributes can be read back: "pick-BACKENDS-MASQUERADE-EMPTY-SECONDS".
func (p picker) name() string {
	return fmt.Sprintf("pick-%d-%d-%d-%d", p.backends, p.masq, p.empty, p.affinity/time.Second)
}

// parsePicker is the inverse of name.
func parsePicker(name string) (picker, bool) {
	rest, ok := strings.CutPrefix(name, "pick-")
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 4 {
		return picker{}, false
	}
	var n [4]int
	for i, s := range parts {
		v, err := strconv.Atoi(s)
		if err != nil || v < 0 {
			return picker{}, false
		}
		n[i] = v
	}
	p := picker{backends: n[0], masq: model.Masquerade(n[1]), empty: model.Empty(n[2]), affinity: time.Duration(n[3]) * time.Second}
	return p, n[1] <= int(model.MasqueradeNever) && n[2] <= int(model.Drop)
}

// queuePicker queues the picker's chain.
func (l layout) queuePicker(c *nftables.Conn, p picker) {
	if p.backends == 0 {
		to := nft.ChainReject
		if p.empty == model.Drop {
			to = chainDrop
		}
		l.chain(c, p.name(), []expr.Any{nft.Goto(to)})
		return
	}
	var rules [][]expr.Any
	switch p.masq {
	case model.MasqueradeAlways:
		rules = append(rules, []expr.Any{nft.Jump(chainMarkAll)})
	case model.MasqueradeOffCluster:
		rules = append(rules, []expr.Any{nft.Jump(chainMarkOff)})
	}
	slot := &expr.Numgen{Register: nft.R3, Modulus: uint32(p.backends), Type: unix.NFT_NG_RANDOM}
	to := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: nft.R4, RegProtoMin: nft.R5}
	pick := nft.Join(nft.LoadKey(nft.R0), slot, nft.Map(l.backends, nft.R0, nft.R4))
	if p.affinity == 0 {
		l.chain(c, p.name(), append(rules, nft.Join(pick, to))...)
		return
	}
	// The client's own backend, if it still is one: the registers hold (client, address, protocol, port) and, behind them, the
	// backend found; the last five are a key of sticky.
	client := nft.Join(nft.LoadSource(nft.R0), nft.LoadKey(nft.R1))
	rules = append(rules,
		nft.Join(client, nft.Map(l.clients, nft.R0, nft.R4), nft.In(l.sticky, nft.R1), l.remember(p, nft.R0), to),
		nft.Join(client, nft.Map(l.clients, nft.R0, nft.R4), l.forget()),
		nft.Join(pick, nft.LoadSource(nft.R8), nft.LoadKey(nft.R9), l.remember(p, nft.R8), to))
	l.chain(c, p.name(), rules...)
}

// remember notes the backend in R4 and R5 for the client whose key begins at r, for as long as the affinity lasts.
func (l layout) remember(p picker, r uint32) expr.Any {
	return &expr.Dynset{SrcRegKey: r, SrcRegData: nft.R4, SetName: l.clients.Name, SetID: l.clients.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: p.affinity}
}

// forget removes the client's old backend: an update would keep it.
func (l layout) forget() expr.Any {
	const opDelete = 2 // NFT_DYNSET_OP_DELETE, which x/sys/unix lacks
	return &expr.Dynset{SrcRegKey: nft.R0, SrcRegData: nft.R4, SetName: l.clients.Name, SetID: l.clients.ID, Operation: opDelete}
}
