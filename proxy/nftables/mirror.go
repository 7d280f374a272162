package nftables

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// service is how one service lies in the maps. slots has its backends in the order of their slots, which is that of their
// coming: a backend that goes leaves its slot to the last one.
type service struct {
	attrs model.Attributes
	slots []model.Backend
}

func (s *service) picker() picker {
	return picker{backends: len(s.slots), masq: s.attrs.Masquerade, empty: s.attrs.Empty, affinity: s.attrs.Affinity}
}

// mirror is what the maps hold. It is pure: plan turns operations into elements and changes the mirror.
type mirror struct {
	services map[model.Frontend]*service
	// pickers counts the services that use each picker.
	pickers map[picker]int
	// damaged is what fits into no service, found when the maps were read; the next change deletes it.
	damaged change
}

func newMirror() *mirror {
	return &mirror{services: make(map[model.Frontend]*service), pickers: make(map[picker]int)}
}

// elements are what goes from and comes to one map.
type elements struct{ del, add []nftables.SetElement }

// change is the content of one batch.
type change struct {
	newPickers, oldPickers            []picker
	services, empty, backends, sticky elements
	// udp are the UDP services that changed.
	udp []model.Frontend
}

func (m *mirror) state() model.State {
	out := make(model.State, len(m.services))
	for f, s := range m.services {
		list := slices.Clone(s.slots)
		slices.SortFunc(list, model.Backend.Compare)
		out[f] = model.Service{Frontend: f, Attributes: s.attrs, Backends: list}
	}
	return out
}

// plan turns operations into a change, and changes the mirror as if it were done. An operation that does not fit (a backend
// that exists, a service that does not) fails before anything is sent; the mirror is then to be thrown away.
func (m *mirror) plan(d model.Delta) (*change, error) {
	ch := m.damaged
	m.damaged = change{}
	before := make(map[model.Frontend]*service)
	used := make(map[picker]int)
	for _, op := range d {
		if _, seen := before[op.Frontend]; !seen {
			before[op.Frontend] = m.services[op.Frontend].clone()
		}
		if err := m.do(op); err != nil {
			return nil, err
		}
	}
	for _, f := range sortedFrontends(before) {
		old, now := before[f], m.services[f]
		ch.compare(f, old, now)
		if old != nil {
			used[old.picker()]--
		}
		if now != nil {
			used[now.picker()]++
		}
		if f.Proto == udp {
			ch.udp = append(ch.udp, f)
		}
	}
	m.count(used, &ch)
	ch.oldPickers = slices.DeleteFunc(ch.oldPickers, func(p picker) bool { return m.pickers[p] > 0 })
	return &ch, nil
}

// count notes which chains are used by how many services now, and which are to be made and removed.
func (m *mirror) count(used map[picker]int, ch *change) {
	for p, n := range used {
		was := m.pickers[p]
		m.pickers[p] = was + n
		switch {
		case was == 0 && was+n > 0:
			ch.newPickers = append(ch.newPickers, p)
		case was > 0 && was+n == 0:
			ch.oldPickers = append(ch.oldPickers, p)
		}
		if was+n == 0 {
			delete(m.pickers, p)
		}
	}
	order := func(a, b picker) int { return cmp.Compare(a.name(), b.name()) }
	slices.SortFunc(ch.newPickers, order)
	slices.SortFunc(ch.oldPickers, order)
}

// do changes the mirror by one operation.
func (m *mirror) do(op model.Op) error {
	s := m.services[op.Frontend]
	if (s == nil) != (op.Verb == model.AddService) {
		return fmt.Errorf("%s: the service exists: %t", op, s != nil)
	}
	switch op.Verb {
	case model.AddService:
		m.services[op.Frontend] = &service{attrs: op.Attributes}
	case model.UpdateService:
		s.attrs = op.Attributes
	case model.RemoveService:
		delete(m.services, op.Frontend)
	case model.AddBackend:
		if slices.Contains(s.slots, op.Backend) {
			return fmt.Errorf("%s: the backend exists", op)
		}
		s.slots = append(s.slots, op.Backend)
	case model.RemoveBackend:
		i := slices.Index(s.slots, op.Backend)
		if i < 0 {
			return fmt.Errorf("%s: there is no such backend", op)
		}
		last := len(s.slots) - 1
		s.slots[i] = s.slots[last]
		s.slots = s.slots[:last]
	}
	return nil
}

// compare adds the elements between two forms of a service; nil is none.
func (ch *change) compare(f model.Frontend, old, now *service) {
	switch {
	case old == nil && now == nil:
		return
	case old == nil:
		old = &service{}
		ch.verdict(f, now)
	case now == nil:
		now = &service{}
		ch.noVerdict(f, old)
	case old.picker() != now.picker():
		ch.noVerdict(f, old)
		ch.verdict(f, now)
	}
	ch.slots(f, old, now)
}

func (ch *change) verdict(f model.Frontend, s *service) {
	e := ch.verdicts(s)
	e.add = append(e.add, nftables.SetElement{Key: key(f), VerdictData: nft.Goto(s.picker().name())})
}

func (ch *change) noVerdict(f model.Frontend, s *service) {
	e := ch.verdicts(s)
	e.del = append(e.del, nftables.SetElement{Key: key(f)})
}

// verdicts is the map in which a service has its verdict: connections are rewritten where they enter, but can be rejected only
// on their way further.
func (ch *change) verdicts(s *service) *elements {
	if len(s.slots) == 0 {
		return &ch.empty
	}
	return &ch.services
}

// slots adds the elements between two lists of backends.
func (ch *change) slots(f model.Frontend, old, now *service) {
	for i := range max(len(old.slots), len(now.slots)) {
		if i < len(old.slots) && i < len(now.slots) && old.slots[i] == now.slots[i] {
			continue
		}
		if i < len(old.slots) {
			ch.backends.del = append(ch.backends.del, nftables.SetElement{Key: slotKey(f, i)})
		}
		if i < len(now.slots) {
			ch.backends.add = append(ch.backends.add, nftables.SetElement{Key: slotKey(f, i), Val: backendBytes(nil, now.slots[i])})
		}
	}
	was, is := stickies(old), stickies(now)
	for _, b := range was {
		if !slices.Contains(is, b) {
			ch.sticky.del = append(ch.sticky.del, nftables.SetElement{Key: backendBytes(key(f), b)})
		}
	}
	for _, b := range is {
		if !slices.Contains(was, b) {
			ch.sticky.add = append(ch.sticky.add, nftables.SetElement{Key: backendBytes(key(f), b)})
		}
	}
}

// stickies are the backends that clients may stay with.
func stickies(s *service) []model.Backend {
	if s.attrs.Affinity == 0 {
		return nil
	}
	return s.slots
}

func (s *service) clone() *service {
	if s == nil {
		return nil
	}
	return &service{attrs: s.attrs, slots: slices.Clone(s.slots)}
}

func sortedFrontends(m map[model.Frontend]*service) []model.Frontend {
	out := make([]model.Frontend, 0, len(m))
	for f := range m {
		out = append(out, f)
	}
	slices.SortFunc(out, model.Frontend.Compare)
	return out
}

func key(f model.Frontend) []byte { return nft.Key(f.Addr, uint8(f.Proto), f.Port) }

func slotKey(f model.Frontend, slot int) []byte { return nft.AppendHost(key(f), uint32(slot)) }

func backendBytes(b []byte, to model.Backend) []byte {
	return nft.AppendPort(nft.AppendAddr(b, to.Addr()), to.Port())
}

func parseKey(b []byte) (model.Frontend, bool) {
	addr, proto, port, ok := nft.ParseKey(b)
	return model.Frontend{Addr: addr, Proto: model.Protocol(proto), Port: port}, ok
}

// parseBackend is the inverse of backendBytes with nothing before it.
func parseBackend(b []byte) (model.Backend, bool) {
	if len(b) < 6 {
		return model.Backend{}, false
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), binary.BigEndian.Uint16(b[4:])), true
}
