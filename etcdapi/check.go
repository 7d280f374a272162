package etcdapi

import (
	"slices"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"reconcile/raftstore"
)

// maxTxnOps is how many operations a transaction may have, with those nested in it: etcd's default.
const maxTxnOps = 128

// maxRequest is how many bytes a request may have: etcd's default, with its allowance for the message around the data.
const maxRequest = 1536<<10 + 512<<10

// checkRange refuses what is wrong with a request whatever the state, and what the client may not read. So do its like.
func (c client) checkRange(r *pb.RangeRequest) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if _, ok := pb.RangeRequest_SortOrder_name[int32(r.SortOrder)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if _, ok := pb.RangeRequest_SortTarget_name[int32(r.SortTarget)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return c.mayRead(spanOf(r.Key, r.RangeEnd))
}

func (c client) checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return c.mayWrite(raftstore.Key(string(r.Key)))
}

func (c client) checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return c.mayWrite(spanOf(r.Key, r.RangeEnd))
}

func (c client) checkTxn(r *pb.TxnRequest) error {
	if err := c.checkOps(r, maxTxnOps); err != nil {
		return err
	}
	for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if _, err := writesOf(list); err != nil {
			return err
		}
	}
	return nil
}

// checkOps looks at each operation of a transaction, which may have at most so many.
func (c client) checkOps(r *pb.TxnRequest, most int) error {
	n := max(len(r.Compare), len(r.Success), len(r.Failure))
	if n > most {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, p := range r.Compare {
		if len(p.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
		if err := c.mayRead(spanOf(p.Key, p.RangeEnd)); err != nil {
			return err
		}
	}
	for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range list {
			if err := c.checkOp(op, most-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c client) checkOp(op *pb.RequestOp, most int) error {
	switch op := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return c.checkRange(op.RequestRange)
	case *pb.RequestOp_RequestPut:
		return c.checkPut(op.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return c.checkDelete(op.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return c.checkOps(op.RequestTxn, most)
	}
	return rpctypes.ErrGRPCKeyNotFound // what etcd says of an empty operation
}

// wants are the keys that a list of operations puts and the spans that it deletes.
type wants struct {
	puts map[string]bool
	dels spans
}

// put notes a put, and refuses one of a key that is put or deleted already.
func (w *wants) put(key string) error {
	if w.puts[key] || w.dels.contain(key) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	w.puts[key] = true
	return nil
}

// spans are in order and do not overlap.
type spans []raftstore.Span

// spansOf are the spans of deletions.
func spansOf(list []*pb.RequestOp) spans {
	var all spans
	for _, op := range list {
		if d := op.GetRequestDeleteRange(); d != nil {
			all = append(all, spanOf(d.Key, d.RangeEnd))
		}
	}
	slices.SortFunc(all, func(a, b raftstore.Span) int { return strings.Compare(a.From, b.From) })
	return spans(nil).with(all)
}

// contain tells whether one of the spans holds a key.
func (s spans) contain(key string) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].From > key })
	return i > 0 && s[i-1].Contains(key)
}

// with adds spans in the order of their beginnings. Both lists are gone through once.
func (s spans) with(more spans) spans {
	if len(more) == 0 {
		return s
	}
	out := make(spans, 0, len(s)+len(more))
	for len(s) > 0 || len(more) > 0 {
		from := &s
		if len(s) == 0 || len(more) > 0 && more[0].From < s[0].From {
			from = &more
		}
		sp := (*from)[0]
		*from = (*from)[1:]
		last := len(out) - 1
		switch {
		case last < 0 || out[last].To != "" && out[last].To < sp.From:
			out = append(out, sp)
		case out[last].To != "" && (sp.To == "" || sp.To > out[last].To):
			out[last].To = sp.To
		}
	}
	return out
}

// writesOf collects the writes of a branch, and refuses one that would write a key twice. The two branches of a nested transaction may write
// the same: only one of them runs. It takes little more than one step an operation, for a request may nest a hundred thousand.
func writesOf(list []*pb.RequestOp) (wants, error) {
	w := wants{puts: map[string]bool{}, dels: spansOf(list)}
	for _, op := range list {
		t := op.GetRequestTxn()
		if t == nil {
			continue
		}
		yes, err := writesOf(t.Success)
		if err != nil {
			return w, err
		}
		no, err := writesOf(t.Failure)
		if err != nil {
			return w, err
		}
		for k := range no.puts {
			yes.puts[k] = true
		}
		for k := range yes.puts {
			if err := w.put(k); err != nil {
				return w, err
			}
		}
		w.dels = w.dels.with(yes.dels).with(no.dels)
	}
	for _, op := range list {
		if p := op.GetRequestPut(); p != nil {
			if err := w.put(string(p.Key)); err != nil {
				return w, err
			}
		}
	}
	return w, nil
}

// readOnly tells whether a transaction has no operation that writes.
func readOnly(r *pb.TxnRequest) bool {
	for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range list {
			if op.GetRequestRange() == nil && (op.GetRequestTxn() == nil || !readOnly(op.GetRequestTxn())) {
				return false
			}
		}
	}
	return true
}
