package ipvs

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"reconcile/proxy/model"
)

// plan turns operations into messages, each with the operation that it is for, and changes the mirror as if they were done. An
// operation that does not fit fails before anything is sent; the mirror is then to be thrown away.
//
// A TCP backend that goes is given weight 0: it takes no new connection and finishes the old ones. One of UDP is deleted, so that
// its clients find another at once.
func (m *mirror) plan(d model.Delta, now time.Time) ([]message, []model.Op, error) {
	messages := make([]message, 0, len(d))
	of := make([]model.Op, 0, len(d))
	var svc *ipvs.Service
	for i, op := range d {
		if err := m.state.Apply(op); err != nil {
			return nil, nil, err
		}
		// The operations of a service stand together; those about backends use its name only.
		if i == 0 || op.Frontend != d[i-1].Frontend || op.Verb == model.UpdateService {
			svc = serviceOf(op.Frontend, m.state[op.Frontend].Attributes)
		}
		msg := message{service: svc}
		key := drain{op.Frontend, op.Backend}
		switch op.Verb {
		case model.AddService:
			msg.cmd = cmdNewService
		case model.UpdateService:
			msg.cmd = cmdSetService
		case model.RemoveService:
			msg.cmd = cmdDelService
			m.forget(op.Frontend)
		case model.AddBackend:
			msg.cmd, msg.dest = cmdNewDest, destOf(op.Backend, 1)
			if _, draining := m.draining[key]; draining {
				msg.cmd = cmdSetDest
				delete(m.draining, key)
			}
		case model.RemoveBackend:
			msg.cmd, msg.dest = cmdDelDest, destOf(op.Backend, 0)
			if op.Frontend.Proto == model.TCP {
				msg.cmd = cmdSetDest
				m.draining[key] = now.Add(drainLimit)
			}
		default:
			return nil, nil, fmt.Errorf("%s: the operation is unknown", op)
		}
		messages, of = append(messages, msg), append(of, op)
	}
	return messages, of, nil
}

// forget drops the draining backends of a service that goes.
func (m *mirror) forget(f model.Frontend) {
	for d := range m.draining {
		if d.frontend == f {
			delete(m.draining, d)
		}
	}
}

// serviceOf is a virtual service as netlink has it.
func serviceOf(f model.Frontend, a model.Attributes) *ipvs.Service {
	s := &ipvs.Service{
		Address: f.Addr.AsSlice(), Protocol: uint16(f.Proto), Port: f.Port, AddressFamily: unix.AF_INET,
		SchedName: scheduler, Netmask: ^uint32(0),
	}
	if a.Affinity > 0 {
		s.Flags, s.Timeout = flagPersistent, uint32(a.Affinity/time.Second)
	}
	return s
}

func frontendOf(s *ipvs.Service) model.Frontend {
	return model.Frontend{Addr: netip.AddrFrom4([4]byte(s.Address)), Proto: model.Protocol(s.Protocol), Port: s.Port}
}

func destOf(b model.Backend, weight int) *ipvs.Destination {
	return &ipvs.Destination{
		Address: b.Addr().AsSlice(), Port: b.Port(), Weight: weight, AddressFamily: unix.AF_INET, ConnectionFlags: ipvs.ConnectionFlagMasq,
	}
}

func backendOf(d *ipvs.Destination) model.Backend {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d.Address)), d.Port)
}
