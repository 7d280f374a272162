package dns

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// ttl is how long clients keep an answer, in seconds. Services move; 5 is what CoreDNS has.
const ttl = 5

// specVersion is the version of the Kubernetes DNS specification that the names follow; it is answered as a record.
const specVersion = "1.1.0"

// maxChain bounds the aliases followed within the cluster's own names.
const maxChain = 8

// resolver answers the cluster's names from a table. It is safe for concurrent use.
type resolver struct {
	table  *table
	domain string // lower case with a final dot
	addrs  []netip.Addr
	serial atomic.Uint32
	turn   atomic.Uint32
}

// result is the content of an answer. ok tells that the name is the cluster's; if not, somebody else has to be asked.
type result struct {
	ok            bool
	rcode         int
	answer, extra []dns.RR
	// alias is a name outside of the cluster that the answer ends with.
	alias string
	// none tells that the name, or what it is an alias of, has no such record.
	none bool
}

// resolve answers one question.
func (r *resolver) resolve(q dns.Question) result {
	name := strings.ToLower(q.Name)
	if dns.IsSubDomain(r.domain, name) {
		if !r.table.known.Load() {
			return result{ok: true, rcode: dns.RcodeServerFailure}
		}
		return r.own(q, name)
	}
	if q.Qtype == dns.TypePTR {
		if rev, ok := r.reverse(name); ok {
			return result{ok: true, answer: []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: r.nameOf(rev.key, rev.host)}}}
		}
	}
	return result{}
}

// own answers a name of the cluster's domain.
func (r *resolver) own(q dns.Question, name string) result {
	var answer, extra []dns.RR
	owner := q.Name
	for range maxChain {
		rest := strings.TrimSuffix(strings.TrimSuffix(name, r.domain), ".")
		found := r.lookup(owner, rest, q.Qtype)
		answer, extra = append(answer, found.answer...), append(extra, found.extra...)
		if found.alias == "" || q.Qtype == dns.TypeCNAME {
			return result{ok: true, rcode: found.rcode, answer: answer, extra: extra, none: len(found.answer) == 0}
		}
		if !dns.IsSubDomain(r.domain, found.alias) {
			return result{ok: true, answer: answer, extra: extra, alias: found.alias}
		}
		owner, name = found.alias, found.alias
	}
	return result{ok: true, rcode: dns.RcodeServerFailure}
}

// lookup finds one name, given without the domain.
func (r *resolver) lookup(owner, rest string, qtype uint16) result {
	labels := strings.Split(rest, ".")
	last := labels[len(labels)-1]
	switch {
	case rest == "":
		return r.apex(owner, qtype)
	case rest == "dns-version":
		return result{answer: only(qtype, &dns.TXT{Hdr: header(owner, dns.TypeTXT), Txt: []string{specVersion}})}
	case rest == "ns.dns":
		return r.addresses(owner, qtype, r.addrs)
	case rest == "svc" || rest == "pod" || rest == "dns":
		return result{}
	case len(labels) == 2 && (last == "svc" || last == "pod"):
		return exists(r.table.hasNamespace(labels[0]))
	case last == "svc":
		return r.service(owner, key{labels[len(labels)-2], labels[len(labels)-3]}, labels[:len(labels)-3], qtype)
	case last == "pod" && len(labels) == 3:
		return r.pod(owner, labels, qtype)
	}
	return exists(false)
}

// apex answers the domain's own name.
func (r *resolver) apex(owner string, qtype uint16) result {
	switch qtype {
	case dns.TypeSOA:
		return result{answer: []dns.RR{r.soa()}}
	case dns.TypeNS:
		ns := "ns.dns." + r.domain
		return result{answer: []dns.RR{&dns.NS{Hdr: header(owner, dns.TypeNS), Ns: ns}}, extra: r.addresses(ns, dns.TypeA, r.addrs).answer}
	}
	return result{}
}

// service answers a service's name, or one below it.
func (r *resolver) service(owner string, k key, below []string, qtype uint16) result {
	s := r.table.get(k)
	if s == nil {
		return exists(false)
	}
	name := strings.Join(below, ".")
	switch {
	case s.Target != "" && name == "":
		return result{answer: []dns.RR{&dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: s.Target}}, alias: s.Target}
	case name == "":
		return r.addresses(owner, qtype, s.Addrs)
	case s.Hosts[name] != nil:
		return r.addresses(owner, qtype, s.Hosts[name])
	case s.Ports[name] != nil:
		return r.ports(owner, k, s, s.Ports[name], qtype)
	}
	return exists(s.exists(name))
}

// ports answers SRV, with the targets' addresses beside.
func (r *resolver) ports(owner string, k key, s *service, ports []port, qtype uint16) result {
	var out result
	if qtype != dns.TypeSRV && qtype != dns.TypeANY {
		return out
	}
	seen := make(map[string]bool)
	for _, p := range ports {
		target := r.nameOf(k, p.Host)
		out.answer = append(out.answer, &dns.SRV{Hdr: header(owner, dns.TypeSRV), Weight: uint16(max(1, 100/len(ports))), Port: p.Port, Target: target})
		if seen[target] {
			continue
		}
		seen[target] = true
		addrs := s.Addrs
		if p.Host != "" {
			addrs = s.Hosts[p.Host]
		}
		out.extra = append(out.extra, r.addresses(target, dns.TypeANY, addrs).answer...)
	}
	return out
}

// pod answers 10-244-0-3.NAMESPACE.pod: the address is in the name, and no pod is looked up, as in CoreDNS' default. To follow all
// pods of the cluster on every node would cost more than the name is worth.
func (r *resolver) pod(owner string, labels []string, qtype uint16) result {
	a, ok := undashed(labels[0])
	if !ok || !r.table.hasNamespace(labels[1]) {
		return exists(false)
	}
	return r.addresses(owner, qtype, []netip.Addr{a})
}

// addresses are A and AAAA records, beginning each time with another one.
func (r *resolver) addresses(owner string, qtype uint16, addrs []netip.Addr) result {
	var out []dns.RR
	first := 0
	if len(addrs) > 1 {
		first = int(r.turn.Add(1) % uint32(len(addrs)))
	}
	for i := range addrs {
		a := addrs[(first+i)%len(addrs)]
		switch {
		case a.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
			out = append(out, &dns.A{Hdr: header(owner, dns.TypeA), A: net.IP(a.AsSlice())})
		case a.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
			out = append(out, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())})
		}
	}
	return result{answer: out}
}

// reverse finds what an address name ("3.0.244.10.in-addr.arpa.") belongs to.
func (r *resolver) reverse(name string) (reverse, bool) {
	a, ok := addrOf(name)
	if !ok {
		return reverse{}, false
	}
	v, ok := r.table.reverse.Load(a)
	if !ok {
		return reverse{}, false
	}
	return v.(reverse), true
}

// addrOf reads the address out of a name below in-addr.arpa; only IPv4 has reverse names.
func addrOf(name string) (netip.Addr, bool) {
	text, ok := strings.CutSuffix(name, ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return netip.Addr{}, false
	}
	b := a.As4()
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}

func (r *resolver) nameOf(k key, host string) string {
	name := k.name + "." + k.namespace + ".svc." + r.domain
	if host != "" {
		name = host + "." + name
	}
	return name
}

// soa is the record that tells for how long an absence may be remembered.
func (r *resolver) soa() dns.RR {
	return &dns.SOA{Hdr: header(r.domain, dns.TypeSOA), Ns: "ns.dns." + r.domain, Mbox: "hostmaster." + r.domain,
		Serial: r.serial.Load(), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// exists is the answer for a name without records: there is none, or there is no such name.
func exists(yes bool) result {
	if yes {
		return result{}
	}
	return result{rcode: dns.RcodeNameError}
}

func only(qtype uint16, rr dns.RR) []dns.RR {
	if qtype == rr.Header().Rrtype || qtype == dns.TypeANY {
		return []dns.RR{rr}
	}
	return nil
}
