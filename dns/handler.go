package dns

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

// Sizes of answers over UDP: without EDNS by RFC 1035, and at most what passes without fragments (DNS flag day 2020).
const (
	plainSize = 512
	ednsSize  = 1232
)

// forwardTimeout bounds all attempts for one question together; stub resolvers give up after 5 s.
const forwardTimeout = 4 * time.Second

// forwarder answers what is not the cluster's.
type forwarder interface {
	// forward asks for q over UDP or TCP and returns the answer as it came.
	forward(ctx context.Context, q *dns.Msg, tcp bool) (*dns.Msg, error)
}

// handler answers questions. It is safe for concurrent use.
type handler struct {
	resolver *resolver
	upstream forwarder
}

// ServeDNS implements dns.Handler.
func (h *handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	tcp := w.LocalAddr().Network() == "tcp"
	ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
	defer cancel()
	// A client that has gone is its own fault.
	_ = w.WriteMsg(h.answer(ctx, q, tcp))
}

// answer is the whole answer to a message, cut to the size that the client takes. It does not change q.
func (h *handler) answer(ctx context.Context, q *dns.Msg, tcp bool) *dns.Msg {
	m := new(dns.Msg)
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return m.SetRcode(q, dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return m.SetRcode(q, dns.RcodeFormatError)
	case q.Question[0].Qclass != dns.ClassINET:
		return m.SetRcode(q, dns.RcodeRefused)
	}
	if opt := q.IsEdns0(); opt != nil && opt.Version() != 0 {
		m.SetRcode(q, dns.RcodeBadVers)
		m.SetEdns0(ednsSize, false)
		return m
	}
	found := h.resolver.resolve(q.Question[0])
	if !found.ok {
		return h.forwarded(ctx, q, tcp)
	}
	m.SetRcode(q, found.rcode)
	m.Authoritative = found.rcode != dns.RcodeServerFailure && found.alias == ""
	m.RecursionAvailable = true
	m.Answer, m.Extra = found.answer, found.extra
	if found.alias != "" {
		h.follow(ctx, m, q, found.alias)
	}
	if found.none {
		m.Ns = []dns.RR{h.resolver.soa()}
	}
	fit(m, q, tcp)
	return m
}

// follow adds what an alias that leaves the cluster stands for.
func (h *handler) follow(ctx context.Context, m, q *dns.Msg, alias string) {
	next := new(dns.Msg)
	next.SetQuestion(alias, q.Question[0].Qtype)
	next.SetEdns0(ednsSize, false)
	// Over TCP, so that a long answer is not cut off here and thought whole there.
	got, err := h.upstream.forward(ctx, next, false)
	if err == nil && got.Truncated {
		got, err = h.upstream.forward(ctx, next, true)
	}
	if err != nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	m.Rcode = got.Rcode
	m.Answer = append(m.Answer, got.Answer...)
}

func (h *handler) forwarded(ctx context.Context, q *dns.Msg, tcp bool) *dns.Msg {
	got, err := h.upstream.forward(ctx, q, tcp)
	if err != nil {
		m := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		m.RecursionAvailable = true
		return m
	}
	got.Id = q.Id
	return got
}

// fit answers EDNS with EDNS and cuts the message to what the client takes; the client then asks again over TCP.
func fit(m, q *dns.Msg, tcp bool) {
	size := plainSize
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(ednsSize, opt.Do())
		size = max(plainSize, min(int(opt.UDPSize()), ednsSize))
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	m.Compress = true
	m.Truncate(size)
}
