package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/mdlayher/netlink"
	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// Commands and attributes of the generic netlink family "IPVS" (include/uapi/linux/ip_vs.h), which moby/ipvs keeps to itself.
const (
	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8

	attrService = 1
	attrDest    = 2

	svcFamily  = 1
	svcProto   = 2
	svcAddr    = 3
	svcPort    = 4
	svcFWMark  = 5
	svcSched   = 6
	svcFlags   = 7
	svcTimeout = 8
	svcNetmask = 9

	destAddr        = 1
	destPort        = 2
	destForward     = 3
	destWeight      = 4
	destUpper       = 5
	destLower       = 6
	destActiveConns = 7
	destFamily      = 11

	familyVersion = 1
)

// message is one request: a command and what it is about. Dest is nil for commands about services.
type message struct {
	cmd     uint8
	service *ipvs.Service
	dest    *ipvs.Destination
}

// appendMessage appends the netlink message for m to b.
func appendMessage(b []byte, family uint16, flags uint16, seq uint32, m message) []byte {
	start := len(b)
	b = append(b, make([]byte, unix.NLMSG_HDRLEN)...)
	b = append(b, m.cmd, familyVersion, 0, 0)
	if m.service != nil {
		b = nested(b, attrService, func(b []byte) []byte { return appendService(b, m.service, m.cmd) })
	}
	if m.dest != nil {
		b = nested(b, attrDest, func(b []byte) []byte { return appendDest(b, m.dest) })
	}
	h := b[start:]
	binary.NativeEndian.PutUint32(h, uint32(len(h)))
	binary.NativeEndian.PutUint16(h[4:], family)
	binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(h[8:], seq)
	return b
}

func appendService(b []byte, s *ipvs.Service, cmd uint8) []byte {
	b = attr16(b, svcFamily, s.AddressFamily)
	b = attr16(b, svcProto, s.Protocol)
	b = attr(b, svcAddr, s.Address.To4())
	b = attr(b, svcPort, binary.BigEndian.AppendUint16(nil, s.Port))
	if cmd != cmdNewService && cmd != cmdSetService {
		return b
	}
	b = attr(b, svcSched, append([]byte(s.SchedName), 0))
	b = attr(b, svcFlags, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, s.Flags), ^uint32(0)))
	b = attr32(b, svcTimeout, s.Timeout)
	return attr32(b, svcNetmask, s.Netmask)
}

func appendDest(b []byte, d *ipvs.Destination) []byte {
	b = attr(b, destAddr, d.Address.To4())
	b = attr(b, destPort, binary.BigEndian.AppendUint16(nil, d.Port))
	b = attr32(b, destForward, d.ConnectionFlags&ipvs.ConnectionFlagFwdMask)
	b = attr32(b, destWeight, uint32(d.Weight))
	b = attr32(b, destUpper, d.UpperThreshold)
	b = attr32(b, destLower, d.LowerThreshold)
	return attr16(b, destFamily, d.AddressFamily)
}

func attr(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attr16(b []byte, kind, v uint16) []byte {
	return attr(b, kind, binary.NativeEndian.AppendUint16(nil, v))
}

func attr32(b []byte, kind uint16, v uint32) []byte {
	return attr(b, kind, binary.NativeEndian.AppendUint32(nil, v))
}

func nested(b []byte, kind uint16, fill func([]byte) []byte) []byte {
	start := len(b)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED)
	b = fill(b)
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

// errIncomplete is returned for an answer that lacks what every service or destination has.
var errIncomplete = errors.New("the kernel's answer is incomplete")

// parseService reads the payload of an answer to cmdGetService.
func parseService(payload []byte) (*ipvs.Service, error) {
	ad, err := inside(payload, attrService)
	if err != nil {
		return nil, fmt.Errorf("read a virtual service: %w", err)
	}
	s := &ipvs.Service{}
	for ad.Next() {
		switch ad.Type() {
		case svcFamily:
			s.AddressFamily = ad.Uint16()
		case svcProto:
			s.Protocol = ad.Uint16()
		case svcAddr:
			s.Address = address(ad.Bytes())
		case svcPort:
			s.Port = bigPort(ad.Bytes())
		case svcFWMark:
			s.FWMark = ad.Uint32()
		case svcSched:
			s.SchedName = ad.String()
		case svcFlags:
			if b := ad.Bytes(); len(b) >= 4 {
				s.Flags = binary.NativeEndian.Uint32(b)
			}
		case svcTimeout:
			s.Timeout = ad.Uint32()
		case svcNetmask:
			s.Netmask = ad.Uint32()
		}
	}
	if err := ad.Err(); err != nil {
		return nil, fmt.Errorf("read a virtual service: %w", err)
	}
	if s.FWMark == 0 && s.Address == nil {
		return nil, fmt.Errorf("read a virtual service: %w", errIncomplete)
	}
	return s, nil
}

// parseDest reads the payload of an answer to cmdGetDest.
func parseDest(payload []byte) (*ipvs.Destination, error) {
	ad, err := inside(payload, attrDest)
	if err != nil {
		return nil, fmt.Errorf("read a destination: %w", err)
	}
	d := &ipvs.Destination{}
	for ad.Next() {
		switch ad.Type() {
		case destAddr:
			d.Address = address(ad.Bytes())
		case destPort:
			d.Port = bigPort(ad.Bytes())
		case destForward:
			d.ConnectionFlags = ad.Uint32()
		case destWeight:
			d.Weight = int(ad.Uint32())
		case destActiveConns:
			d.ActiveConnections = int(ad.Uint32())
		case destFamily:
			d.AddressFamily = ad.Uint16()
		}
	}
	if err := ad.Err(); err != nil {
		return nil, fmt.Errorf("read a destination: %w", err)
	}
	if d.Address == nil {
		return nil, fmt.Errorf("read a destination: %w", errIncomplete)
	}
	return d, nil
}

// inside decodes the attribute that holds the others. payload begins with the generic netlink header.
func inside(payload []byte, kind uint16) (*netlink.AttributeDecoder, error) {
	if len(payload) < 4 {
		return nil, errIncomplete
	}
	ad, err := netlink.NewAttributeDecoder(payload[4:])
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		if ad.Type() == kind {
			return netlink.NewAttributeDecoder(ad.Bytes())
		}
	}
	if err := ad.Err(); err != nil {
		return nil, err
	}
	return nil, errIncomplete
}

// address reads an address: the kernel sends 16 bytes for either family. Only IPv4 is ours.
func address(b []byte) net.IP {
	if len(b) < 4 {
		return nil
	}
	return net.IP(append([]byte(nil), b[:4]...))
}

func bigPort(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}
