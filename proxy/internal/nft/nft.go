// Package nft is the vocabulary with which the proxy's kernels write nftables rules: connections with buffers large enough for a
// whole state in one batch, the expressions that rules are made of, and the bytes of keys and verdicts.
//
// It owns no table and no state. It knows nothing of services.
//
// How data passes through: netip values become key bytes and expressions; the callers put them into a batch.
package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Registers. nf_tables has sixteen of 4 bytes, numbered from 8; a concatenation stands in neighbouring ones.
const (
	R0 uint32 = 8 + iota
	R1
	R2
	R3
	R4
	R5
	R6
	R7
	R8
	R9
	R10
	R11
)

// Buffers of the netlink socket. A batch is one message, and 10,000 services of 10 endpoints are 15 MB; each of its parts is
// acknowledged. They are limits, not allocations.
const (
	writeBuffer = 256 << 20
	readBuffer  = 32 << 20
)

// Open connects to nf_tables of the calling thread's network namespace. The caller closes it with CloseLasting.
func Open() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetWriteBuffer(writeBuffer); err != nil {
			return err
		}
		return c.SetReadBuffer(readBuffer)
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables' netlink socket: %w", err)
	}
	return c, nil
}

// ElementsPerMessage bounds the elements of one message: an attribute holds 64 KB.
const ElementsPerMessage = 500

// Add queues elements in messages that the kernel takes.
func Add(c *nftables.Conn, s *nftables.Set, elems []nftables.SetElement) error {
	return chunks(elems, func(part []nftables.SetElement) error { return c.SetAddElements(s, part) })
}

// Delete queues the removal of elements in messages that the kernel takes.
func Delete(c *nftables.Conn, s *nftables.Set, elems []nftables.SetElement) error {
	return chunks(elems, func(part []nftables.SetElement) error { return c.SetDeleteElements(s, part) })
}

func chunks(elems []nftables.SetElement, f func([]nftables.SetElement) error) error {
	for len(elems) > 0 {
		n := min(len(elems), ElementsPerMessage)
		if err := f(elems[:n]); err != nil {
			return err
		}
		elems = elems[n:]
	}
	return nil
}

// Concat is the type of a concatenated key. It panics on more than five parts.
func Concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(types...)
}

// AppendAddr appends the 4 bytes of an IPv4 address.
func AppendAddr(b []byte, a netip.Addr) []byte {
	v := a.As4()
	return append(b, v[:]...)
}

// AppendProto appends a protocol number, padded to a register.
func AppendProto(b []byte, p uint8) []byte { return append(b, p, 0, 0, 0) }

// AppendPort appends a port in network order, padded to a register.
func AppendPort(b []byte, p uint16) []byte { return append(b, byte(p>>8), byte(p), 0, 0) }

// AppendHost appends a number in host order, as numgen writes it.
func AppendHost(b []byte, n uint32) []byte { return binary.NativeEndian.AppendUint32(b, n) }

// LoadSource, LoadDest, LoadProto and LoadPort load a part of the packet into a register.
func LoadSource(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

// LoadDest loads the destination address.
func LoadDest(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

// LoadProto loads the protocol number.
func LoadProto(r uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r} }

// LoadPort loads the destination port.
func LoadPort(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// LoadKey loads destination address, protocol and port into r and the two registers after it.
func LoadKey(r uint32) []expr.Any {
	return []expr.Any{LoadDest(r), LoadProto(r + 1), LoadPort(r + 2)}
}

// VerdictMap looks the key in r up and does what the map says.
func VerdictMap(s *nftables.Set, r uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, DestRegister: 0, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}
}

// Map looks the key in r up and puts the value into to. A miss ends the rule.
func Map(s *nftables.Set, r, to uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, DestRegister: to, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}
}

// In goes on if the key in r is in the set.
func In(s *nftables.Set, r uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, SetName: s.Name, SetID: s.ID}
}

// InPrefix goes on if the address in r is in the prefix, or is not. It changes r.
func InPrefix(r uint32, p netip.Prefix, in bool) []expr.Any {
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - p.Bits()))
	if p.Bits() == 0 {
		mask = make([]byte, 4)
	}
	op := expr.CmpOpEq
	if !in {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: r, Data: AppendAddr(nil, p.Masked().Addr())},
	}
}

// Equal goes on if r holds the bytes.
func Equal(r uint32, b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: r, Data: b} }

// CtStatusHas goes on if the connection has one of the status bits.
func CtStatusHas(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: R0},
		&expr.Bitwise{SourceRegister: R0, DestRegister: R0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: R0, Data: make([]byte, 4)},
	}
}

// CtDNAT is the status bit of a connection whose destination was changed (nf_conntrack_common.h, IPS_DST_NAT).
const CtDNAT = 1 << 5

// SetMark sets a bit of the packet's mark.
func SetMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: R0},
		&expr.Bitwise{SourceRegister: R0, DestRegister: R0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: R0, SourceRegister: true},
	}
}

// HasMark goes on if a bit of the packet's mark is set.
func HasMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: R0},
		&expr.Bitwise{SourceRegister: R0, DestRegister: R0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: R0, Data: make([]byte, 4)},
	}
}

// Masquerade gives the connection the address of the interface it leaves by, with a random port.
func Masquerade() expr.Any { return &expr.Masq{FullyRandom: true} }

// Jump and Goto go on in another chain; Goto does not come back.
func Jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// Goto goes on in another chain and does not come back.
func Goto(chain string) *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// Verdict is a final verdict.
func Verdict(k expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: k} }

// RejectRules answer a connection at once: TCP by a reset, others by ICMP port unreachable.
func RejectRules() [][]expr.Any {
	return [][]expr.Any{
		{LoadProto(R0), Equal(R0, []byte{unix.IPPROTO_TCP}), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}},
		{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}},
	}
}

// VerdictChain reads the chain out of the value of an element of a verdict map. google/nftables hands that value over undecoded:
// the attributes of struct nft_verdict.
func VerdictChain(val []byte) (string, error) {
	ad, err := netlink.NewAttributeDecoder(val)
	if err != nil {
		return "", fmt.Errorf("decode a verdict: %w", err)
	}
	chain := ""
	for ad.Next() {
		if ad.Type() == unix.NFTA_VERDICT_CHAIN {
			chain = ad.String()
		}
	}
	return chain, ad.Err()
}

// Join makes one rule of parts, each an expr.Any or a []expr.Any.
func Join(parts ...any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			out = append(out, p...)
		case expr.Any:
			out = append(out, p)
		}
	}
	return out
}

// CtStateNew goes on if the packet would begin a connection.
func CtStateNew() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: R0},
		&expr.Bitwise{SourceRegister: R0, DestRegister: R0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: R0, Data: make([]byte, 4)},
	}
}

// Fill queues rules in place of those that a chain has.
func Fill(c *nftables.Conn, ch *nftables.Chain, rules [][]expr.Any) {
	c.FlushChain(ch)
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: r})
	}
}

// Key is the bytes of (address, protocol, port).
func Key(a netip.Addr, proto uint8, port uint16) []byte {
	return AppendPort(AppendProto(AppendAddr(make([]byte, 0, 20), a), proto), port)
}

// ParseKey is the inverse of Key; it reads the first 12 bytes.
func ParseKey(b []byte) (a netip.Addr, proto uint8, port uint16, ok bool) {
	if len(b) < 12 {
		return netip.Addr{}, 0, 0, false
	}
	return netip.AddrFrom4([4]byte(b[:4])), b[4], binary.BigEndian.Uint16(b[8:]), true
}

// CameIn goes on if the packet came in by an interface; what this machine sends itself comes in by lo after it went out.
func CameIn() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: R0},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: R0, Data: make([]byte, 4)},
	}
}
