package etcdapi

import (
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

func (c client) checkTxn(r *pb.TxnRequest, most int) error {
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
		if _, err := writesOf(list); err != nil {
			return err
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
		return c.checkTxn(op.RequestTxn, most)
	}
	return rpctypes.ErrGRPCKeyNotFound // what etcd says of an empty operation
}

// wants are the keys that a list of operations puts and the spans that it deletes.
type wants struct {
	puts map[string]bool
	dels []raftstore.Span
}

func (w *wants) deletes(key string) bool {
	for _, sp := range w.dels {
		if sp.Contains(key) {
			return true
		}
	}
	return false
}

// writesOf collects the writes of a branch, and refuses one that would write a key twice. The two branches of a nested transaction may write
// the same: only one of them runs.
func writesOf(list []*pb.RequestOp) (wants, error) {
	w := wants{puts: map[string]bool{}}
	for _, op := range list {
		if d := op.GetRequestDeleteRange(); d != nil {
			w.dels = append(w.dels, spanOf(d.Key, d.RangeEnd))
		}
	}
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
			if w.puts[k] || w.deletes(k) {
				return w, rpctypes.ErrGRPCDuplicateKey
			}
			w.puts[k] = true
		}
		w.dels = append(append(w.dels, yes.dels...), no.dels...)
	}
	for _, op := range list {
		p := op.GetRequestPut()
		if p == nil {
			continue
		}
		k := string(p.Key)
		if w.puts[k] || w.deletes(k) {
			return w, rpctypes.ErrGRPCDuplicateKey
		}
		w.puts[k] = true
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
