package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// listMeta is what a list says about itself.
type listMeta struct {
	rev       string
	next      string
	remaining *int64
}

func (m listMeta) meta() metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: m.rev, Continue: m.next, RemainingItemCount: m.remaining}
}

// page is what a list shows.
type page struct {
	items []object.Object
	// values are the bytes that the items are stored as, nil where they are not at hand.
	values [][]byte
	meta   listMeta
	// holes are the places between items at which the selection leaves something out: i is before items[i].
	holes []int
}

// hole notes that something is left out behind what was added last.
func (p *page) hole() {
	if n := len(p.items); len(p.holes) == 0 || p.holes[len(p.holes)-1] != n {
		p.holes = append(p.holes, n)
	}
}

func (p *page) add(o object.Object, value []byte) {
	p.items, p.values = append(p.items, o), append(p.values, value)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, t target) error {
	a, err := negotiate(r, hasProto(t.kind), shapeTable, shapePartialList)
	if err != nil {
		return err
	}
	o, err := parseListOptions(t)
	if err != nil {
		return err
	}
	p, err := s.collect(r, t, o)
	if err != nil {
		return err
	}
	if s.zippable(r, t.kind, a, p) {
		parts, err := s.zippedList(t.kind, a, p)
		if err != nil {
			return err
		}
		sendZipped(w, http.StatusOK, a.media, parts)
		return nil
	}
	parts, err := s.listBody(r, t.kind, a, p)
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, a.media, parts...)
	return nil
}

// collect returns the objects of one page and what the list says about itself.
func (s *Server) collect(r *http.Request, t target, o listOptions) (page, error) {
	view, from, err := s.page(r, o)
	if err != nil {
		return page{}, err
	}
	p := onePage(view, from, t, o)
	if forgotten(view) {
		return page{}, expired(o, from.After)
	}
	return p, nil
}

// onePage reads the page of a view that a token asks for, which is empty for the first one.
func onePage(view View, at pageToken, t target, o listOptions) page {
	from := at.After
	p := page{meta: listMeta{rev: formatRev(view.Rev())}}
	// A name in the selector is a read of one object: rollout status, wait and describe ask like this.
	if name, ok := o.sel.fields.RequiresExactMatch("metadata.name"); ok && (t.namespace != "" || !t.kind.Namespaced) && from == "" {
		one := t
		one.name = name
		if x, ok := view.Get(one.key()); ok && o.sel.matches(x) {
			p.add(x, nil)
		}
		return p
	}
	var last object.Object
	more := int64(0)
	start := ""
	if from != "" {
		start = object.PathPrefix(t.resource, "") + strings.TrimPrefix(from, "/")
	}
	for x, value := range listStored(view, t.resource, t.namespace, start) {
		if from != "" {
			if place(x) <= from {
				continue
			}
			from = "" // so is what follows
		}
		if !o.sel.matches(x) {
			p.hole()
			continue
		}
		if o.Limit > 0 && int64(len(p.items)) == o.Limit {
			more++
			if !o.sel.everything() {
				break
			}
			if at.Left > 0 {
				more = max(1, at.Left-o.Limit)
				break
			}
			continue
		}
		p.add(x, value)
		last = x
	}
	if more > 0 {
		next := pageToken{Rev: view.Rev(), After: place(last)}
		if o.sel.everything() {
			p.meta.remaining, next.Left = &more, more
		}
		p.meta.next = next.encode()
	}
	return p
}

// page returns the view of a page and where it begins.
func (s *Server) page(r *http.Request, o listOptions) (View, pageToken, error) {
	if o.Continue != "" {
		return s.nextPage(r, o)
	}
	view, err := s.fresh(r.Context(), o.ResourceVersion)
	if err != nil {
		return nil, pageToken{}, err
	}
	if o.exact() {
		rev, err := parseRev(o.ResourceVersion)
		if err == nil {
			view, err = s.at(view, rev)
		}
		if errors.Is(err, ErrCompacted) {
			err = expired(o, "")
		}
		return view, pageToken{}, err
	}
	return view, pageToken{}, nil
}

// exact tells whether a list wants the state of its resource version and no later one. Who asks for a first page and says nothing wants that too:
// Kubernetes' legacy.
func (o listOptions) exact() bool {
	return o.ResourceVersionMatch == metav1.ResourceVersionMatchExact ||
		o.ResourceVersionMatch == "" && o.Limit > 0 && o.ResourceVersion != "" && o.ResourceVersion != "0"
}

// nextPage returns the view and the content of a continue token, which may be of another server.
func (s *Server) nextPage(r *http.Request, o listOptions) (View, pageToken, error) {
	t, err := readToken(o.Continue)
	switch {
	case err != nil:
		return nil, t, err
	case o.ResourceVersion != "" && o.ResourceVersion != "0":
		return nil, t, badRequest("specifying resource version is not allowed when using continue")
	case t.Rev == 0:
		t.Left = 0 // that was another state
		return s.cfg.Store.View(), t, nil
	}
	if err := s.await(r.Context(), t.Rev); err != nil {
		return nil, t, err
	}
	view, err := s.at(s.cfg.Store.View(), t.Rev)
	if errors.Is(err, ErrCompacted) {
		err = expired(o, t.After)
	}
	return view, t, err
}

// listBody encodes a list as agreed, as parts to be sent one after another. The parts are shared bytes.
func (s *Server) listBody(r *http.Request, k object.Kind, a accepted, p page) ([][]byte, error) {
	items, m := p.items, p.meta
	switch {
	case a.refused != nil:
		return nil, a.refused
	case a.shape == shapeTable:
		return s.table(k, a, items, m, r)
	case a.shape == shapePartialList:
		return partialList(a, items, m)
	case a.media == mediaProto:
		return s.protoList(k, p)
	}
	parts, err := s.jsonList(k, items, m)
	if err != nil || a.media == mediaJSON && !a.pretty {
		return parts, err
	}
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	b, err := asText(all, a)
	return [][]byte{b}, err
}

// A list in JSON is its head, its items with commas between them, and its tail.
const jsonTail = "]}\n"

func jsonHead(k object.Kind, m listMeta) ([]byte, error) {
	meta, err := json.Marshal(m.meta())
	if err != nil {
		return nil, err
	}
	return []byte(`{"kind":"` + k.GVK.Kind + `List","apiVersion":"` + k.GVK.GroupVersion().String() + `","metadata":` + string(meta) + `,"items":[`), nil
}

func (s *Server) jsonList(k object.Kind, items []object.Object, m listMeta) ([][]byte, error) {
	head, err := jsonHead(k, m)
	if err != nil {
		return nil, err
	}
	parts, err := s.jsonItems(append(make([][]byte, 0, 2*len(items)+2), head), k, items)
	return append(parts, []byte(jsonTail)), err
}

// jsonItems appends items with commas between them.
func (s *Server) jsonItems(parts [][]byte, k object.Kind, items []object.Object) ([][]byte, error) {
	// The list says of which kind its items are, and they do not, as in Kubernetes.
	own := []byte(`{"kind":"` + k.GVK.Kind + `","apiVersion":"` + k.GVK.GroupVersion().String() + `",`)
	open, next := []byte("{"), []byte(",{")
	for i, o := range items {
		b, err := s.enc.bytes(o, k, encodeJSON, stored)
		if err != nil {
			return nil, err
		}
		rest, ok := bytes.CutPrefix(b, own)
		if !ok {
			return nil, fmt.Errorf("list %s: its JSON does not begin with its kind", object.KeyOf(o))
		}
		if i > 0 {
			parts = append(parts, next, rest)
		} else {
			parts = append(parts, open, rest)
		}
	}
	return parts, nil
}

// protoHead is what stands before a list's items, which are so many bytes.
func protoHead(k object.Kind, m listMeta, size int) ([]byte, error) {
	listMeta := m.meta()
	meta, err := listMeta.Marshal()
	if err != nil {
		return nil, err
	}
	head := protowire.AppendTag(nil, 1, protowire.BytesType)
	head = protowire.AppendBytes(head, meta)
	list := k.GVK
	list.Kind += "List"
	return append(envelopeHead(list, len(head)+size), head...), nil
}

func (s *Server) protoList(k object.Kind, p page) ([][]byte, error) {
	parts, size, err := s.protoItems(make([][]byte, 1, 2*len(p.items)+1), k, p.items, p.values)
	if err != nil {
		return nil, err
	}
	parts[0], err = protoHead(k, p.meta, size)
	return parts, err
}

// protoItems appends items, each with what stands before it in a list, and tells how many bytes they are.
func (s *Server) protoItems(parts [][]byte, k object.Kind, items []object.Object, values [][]byte) ([][]byte, int, error) {
	size := 0
	heads := make([]byte, 0, 6*len(items))
	for i, o := range items {
		var raw []byte
		ok := false
		if k.IsStored() {
			raw, ok = object.Payload(values[i])
		}
		if !ok {
			var err error
			if raw, err = s.enc.bytes(o, k, encodeProto, stored); err != nil {
				return nil, 0, err
			}
		}
		from := len(heads)
		heads = appendListItemHead(heads, len(raw))
		parts = append(parts, heads[from:len(heads):len(heads)], raw)
		size += listItemSize(len(raw))
	}
	return parts, size, nil
}

func partialList(a accepted, items []object.Object, m listMeta) ([][]byte, error) {
	list := &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + a.version, Kind: "PartialObjectMetadataList"},
		ListMeta: m.meta(),
	}
	for _, o := range items {
		list.Items = append(list.Items, *partial(o, a.version))
	}
	if a.media == mediaProto {
		raw, err := list.Marshal()
		if err != nil {
			return nil, err
		}
		gvk := schema.GroupVersionKind{Group: "meta.k8s.io", Version: a.version, Kind: "PartialObjectMetadataList"}
		return [][]byte{envelopeHead(gvk, len(raw)), raw}, nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	b, err = asText(b, a)
	return [][]byte{b}, err
}
