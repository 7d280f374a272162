package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// TableName is the name of the one nftables table that is ours, in family ip.
const TableName = "reconcile-ipvs"

// Bits of a packet's mark: masquerade it (kube-proxy's bit), and: it belongs to a service.
const (
	markMasquerade = 0x4000
	markService    = 0x8000
)

// Priorities of chains (netfilter_ipv4.h). IPVS takes packets out of INPUT at 98 and 99, so the guard of what is left comes
// after it: at 0 it would reject the services too.
const (
	priorityMark  = -150
	priorityGuard = 150
)

// guard is the nftables table with what IPVS cannot say.
type guard struct {
	table *nftables.Table
	// services has (address, protocol, port) -> goto the chain for its attributes.
	services *nftables.Set
	// external has service addresses outside of the service range.
	external *nftables.Set
	// hairpin has (pod, pod) for each address of this node's pods.
	hairpin *nftables.Set
}

func newGuard() guard {
	addr := nftables.TypeIPAddr
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4}
	return guard{
		table: t,
		services: &nftables.Set{Table: t, Name: "services", Concatenation: true, IsMap: true, DataType: nftables.TypeVerdict,
			KeyType: nft.Concat(addr, nftables.TypeInetProto, nftables.TypeInetService)},
		external: &nftables.Set{Table: t, Name: "external", KeyType: addr},
		hairpin:  &nftables.Set{Table: t, Name: "hairpin", Concatenation: true, KeyType: nft.Concat(addr, addr)},
	}
}

// queueFixed queues everything that does not depend on services.
func (g guard) queueFixed(c *nftables.Conn, f model.Facts) error {
	c.AddTable(g.table)
	for _, s := range []*nftables.Set{g.services, g.external, g.hairpin} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	g.chain(c, nft.ChainReject, nft.RejectRules()...)
	for _, k := range allClasses() {
		g.queueClass(c, k, f)
	}
	classify := nft.Join(nft.LoadKey(nft.R0), nft.VerdictMap(g.services, nft.R0))
	// Replies do not pass here with the service's address, so the mark is that of the client's direction.
	g.hook(c, "mark-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityMark, classify)
	g.hook(c, "mark-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, priorityMark, classify)
	g.hook(c, "nat-postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource,
		nft.Join(nft.HasMark(markMasquerade), nft.Masquerade()),
		// The connection is not marked as rewritten ("ct status dnat"): IPVS rewrites by itself.
		nft.Join(nft.HasMark(markService), nft.LoadSource(nft.R0), nft.LoadDest(nft.R1), nft.In(g.hairpin, nft.R0), nft.Masquerade()))
	external := nft.Join(nft.LoadDest(nft.R0), nft.In(g.external, nft.R0), nft.Goto(nft.ChainReject))
	g.hook(c, "guard-input", nftables.ChainTypeFilter, nftables.ChainHookInput, priorityGuard, append(nft.Guard(f.ServiceCIDR, f.DNSAddr), external)...)
	c.FlushSet(g.hairpin)
	return nft.Add(c, g.hairpin, nft.Hairpins(f.PodCIDR))
}

// class is what the guard does with a service's packets.
type class struct {
	masq  model.Masquerade
	empty model.Empty
	// none tells that the service has no backend for new connections.
	none bool
}

func classOf(s model.Service) class {
	return class{masq: s.Masquerade, empty: s.Empty, none: len(s.Backends) == 0}
}

func allClasses() []class {
	var out []class
	for _, m := range []model.Masquerade{model.MasqueradeOffCluster, model.MasqueradeAlways, model.MasqueradeNever} {
		for _, e := range []model.Empty{model.Reject, model.Drop} {
			out = append(out, class{m, e, false}, class{m, e, true})
		}
	}
	return out
}

// chain is the class's chain; it says all, so that attributes can be read back.
func (k class) chain() string {
	name := "class-" + k.masq.String() + "-" + k.empty.String()
	if k.none {
		name += "-none"
	}
	return name
}

// classOfChain is the inverse of chain.
func classOfChain(chain string) (class, bool) {
	i := slices.IndexFunc(allClasses(), func(k class) bool { return k.chain() == chain })
	if i < 0 {
		return class{}, false
	}
	return allClasses()[i], true
}

// queueClass queues a class's chain: marks, and what happens to a new connection where there is no backend. Old ones go on to
// their draining backend.
func (g guard) queueClass(c *nftables.Conn, k class, f model.Facts) {
	rules := [][]expr.Any{nft.SetMark(markService)}
	// How a connection is masqueraded is decided with its first packet, so a class without backends marks nothing: a packet of
	// this machine that is rejected on its way back in by lo must still have the sender's address.
	switch {
	case k.none:
	case k.masq == model.MasqueradeAlways:
		rules = append(rules, nft.SetMark(markMasquerade))
	case k.masq == model.MasqueradeOffCluster:
		rules = append(rules, nft.Join(nft.LoadSource(nft.R0), nft.InPrefix(nft.R0, f.ClusterCIDR, false), nft.SetMark(markMasquerade)))
	}
	if k.none {
		end := nft.Verdict(expr.VerdictDrop)
		if k.empty == model.Reject {
			end = nft.Goto(nft.ChainReject)
		}
		// Rejected on the way out, a UDP client on this machine would not learn of it.
		rules = append(rules, nft.Join(nft.CameIn(), nft.CtStateNew(), end))
	}
	g.chain(c, k.chain(), rules...)
}

func (g guard) chain(c *nftables.Conn, name string, rules ...[]expr.Any) {
	nft.Fill(c, c.AddChain(&nftables.Chain{Name: name, Table: g.table}), rules)
}

func (g guard) hook(c *nftables.Conn, name string, kind nftables.ChainType, at *nftables.ChainHook, prio nftables.ChainPriority, rules ...[]expr.Any) {
	nft.Fill(c, c.AddChain(&nftables.Chain{Name: name, Table: g.table, Type: kind, Hooknum: at, Priority: &prio}), rules)
}

// read returns the class of each service.
func (g guard) read(c *nftables.Conn) (map[model.Frontend]class, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for its nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }) {
		return map[model.Frontend]class{}, nil
	}
	elems, err := c.GetSetElements(g.services)
	if err != nil {
		return nil, fmt.Errorf("read the nftables map %s: %w", g.services.Name, err)
	}
	out := make(map[model.Frontend]class, len(elems))
	for _, e := range elems {
		chain, err := nft.VerdictChain(e.Val)
		if err != nil {
			return nil, err
		}
		addr, proto, port, ok := nft.ParseKey(e.Key)
		k, known := classOfChain(chain)
		if ok && known {
			out[model.Frontend{Addr: addr, Proto: model.Protocol(proto), Port: port}] = k
		}
	}
	return out, nil
}

// set makes the classes of services want in place of have, and the external addresses so, in one batch.
func (g guard) set(c *nftables.Conn, have, want map[model.Frontend]class, externalHave, externalWant []netip.Addr) error {
	var del, add []nftables.SetElement
	for f, k := range have {
		if now, ok := want[f]; !ok || now != k {
			del = append(del, nftables.SetElement{Key: frontendKey(f)})
		}
	}
	for f, k := range want {
		if old, ok := have[f]; !ok || old != k {
			add = append(add, nftables.SetElement{Key: frontendKey(f), VerdictData: nft.Goto(k.chain())})
		}
	}
	if err := nft.Delete(c, g.services, del); err != nil {
		return err
	}
	if err := nft.Add(c, g.services, add); err != nil {
		return err
	}
	if !slices.Equal(externalHave, externalWant) {
		c.FlushSet(g.external)
		var elems []nftables.SetElement
		for _, a := range externalWant {
			elems = append(elems, nftables.SetElement{Key: nft.AppendAddr(nil, a)})
		}
		if err := nft.Add(c, g.external, elems); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("mark services in the nftables table %s: %w", TableName, err)
	}
	return nil
}

func frontendKey(f model.Frontend) []byte { return nft.Key(f.Addr, uint8(f.Proto), f.Port) }
