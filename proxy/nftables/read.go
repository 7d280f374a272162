package nftables

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"

	"reconcile/proxy/internal/nft"
	"reconcile/proxy/model"
)

// read reads the maps back into a mirror. What fits into no service (a verdict without its backends, a backend without its
// service) is noted as damaged and not part of the mirror's state, so that the next difference makes it anew.
func (k *Kernel) read() (*mirror, error) {
	m := newMirror()
	if err := k.readChains(m); err != nil {
		return nil, err
	}
	found := make(map[model.Frontend]picker)
	for _, set := range []struct {
		set *nftables.Set
		el  *elements
	}{{k.layout.services, &m.damaged.services}, {k.layout.empty, &m.damaged.empty}} {
		elems, err := k.elements(set.set)
		if err != nil {
			return nil, err
		}
		for _, e := range elems {
			chain, err := nft.VerdictChain(e.Val)
			if err != nil {
				return nil, fmt.Errorf("map %s: %w", set.set.Name, err)
			}
			f, ok := parseKey(e.Key)
			p, known := parsePicker(chain)
			_, twice := found[f]
			if !ok || !known || twice || (p.backends == 0) != (set.set == k.layout.empty) {
				set.el.del = append(set.el.del, nftables.SetElement{Key: e.Key})
				continue
			}
			found[f] = p
		}
	}
	if err := k.readBackends(m, found); err != nil {
		return nil, err
	}
	if err := k.readSticky(m); err != nil {
		return nil, err
	}
	return m, nil
}

// readChains finds the pickers that exist, each used by no service yet.
func (k *Kernel) readChains(m *mirror) error {
	chains, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list the chains of nftables: %w", err)
	}
	for _, c := range chains {
		if p, ok := parsePicker(c.Name); ok && c.Table.Name == TableName {
			m.pickers[p] = 0
		}
	}
	return nil
}

// readBackends fills the services with their backends and keeps those that are whole.
func (k *Kernel) readBackends(m *mirror, found map[model.Frontend]picker) error {
	elems, err := k.elements(k.layout.backends)
	if err != nil {
		return err
	}
	slots := make(map[model.Frontend][]model.Backend, len(found))
	stray := func(e nftables.SetElement) {
		m.damaged.backends.del = append(m.damaged.backends.del, nftables.SetElement{Key: e.Key})
	}
	for _, e := range elems {
		f, ok := parseKey(e.Key)
		b, valid := parseBackend(e.Val)
		p := found[f]
		if !ok || !valid || len(e.Key) != 16 {
			stray(e)
			continue
		}
		slot := int(binary.NativeEndian.Uint32(e.Key[12:]))
		if slot >= p.backends {
			stray(e)
			continue
		}
		if slots[f] == nil {
			slots[f] = make([]model.Backend, p.backends)
		}
		slots[f][slot] = b
	}
	for f, p := range found {
		list := slots[f]
		if len(list) != p.backends || hasHole(list) {
			m.damaged.half(f, p, list)
			continue
		}
		m.services[f] = &service{attrs: model.Attributes{Masquerade: p.masq, Empty: p.empty, Affinity: p.affinity}, slots: list}
		m.pickers[p]++
	}
	// Chains that no service uses go with the next change.
	for p, n := range m.pickers {
		if n == 0 {
			m.damaged.oldPickers = append(m.damaged.oldPickers, p)
			delete(m.pickers, p)
		}
	}
	return nil
}

// readSticky compares the set of sticky backends with what the services say.
func (k *Kernel) readSticky(m *mirror) error {
	elems, err := k.elements(k.layout.sticky)
	if err != nil {
		return err
	}
	have := make(map[string]struct{}, len(elems))
	for _, e := range elems {
		have[string(e.Key)] = struct{}{}
	}
	for _, f := range sortedFrontends(m.services) {
		for _, b := range stickies(m.services[f]) {
			key := backendBytes(key(f), b)
			if _, ok := have[string(key)]; !ok {
				m.damaged.sticky.add = append(m.damaged.sticky.add, nftables.SetElement{Key: key})
			}
			delete(have, string(key))
		}
	}
	for key := range have {
		m.damaged.sticky.del = append(m.damaged.sticky.del, nftables.SetElement{Key: []byte(key)})
	}
	return nil
}

func (k *Kernel) elements(s *nftables.Set) ([]nftables.SetElement, error) {
	elems, err := k.conn.GetSetElements(s)
	if err != nil {
		return nil, fmt.Errorf("read the nftables set %s: %w", s.Name, err)
	}
	return elems, nil
}

func hasHole(list []model.Backend) bool {
	return slices.ContainsFunc(list, func(b model.Backend) bool { return !b.IsValid() })
}

// half notes a service that is not whole, so that all of it is deleted.
func (ch *change) half(f model.Frontend, p picker, slots []model.Backend) {
	e := &ch.services
	if p.backends == 0 {
		e = &ch.empty
	}
	e.del = append(e.del, nftables.SetElement{Key: key(f)})
	for i, b := range slots {
		if b.IsValid() {
			ch.backends.del = append(ch.backends.del, nftables.SetElement{Key: slotKey(f, i)})
		}
	}
}
