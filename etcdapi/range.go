package etcdapi

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"reconcile/raftstore"
	"reconcile/sequencer"
)

// selection is what a range request finds. Records are shared.
type selection struct {
	records []*raftstore.Record
	more    bool
	// count is the number of keys in the range, before limit and filters.
	count int64
}

// source is a state that ranges read: a view, or the head inside a transaction.
type source interface {
	Get(key string) (*raftstore.Record, bool)
	// Err tells, after a read, that what was read may lack what a compaction took away meanwhile.
	Err() error
	// scan returns at most limit (0: all) records of a span that match (nil: all), and counts all of the span.
	scan(sp raftstore.Span, limit int, match func(*raftstore.Record) bool) (raftstore.Page, error)
	// count counts the keys of a span.
	count(sp raftstore.Span) (int64, error)
}

// viewSource is a view, at its own or at an earlier revision.
type viewSource struct{ *raftstore.View }

func (v viewSource) scan(sp raftstore.Span, limit int, match func(*raftstore.Record) bool) (raftstore.Page, error) {
	return v.Select(raftstore.Query{Span: sp, Limit: limit, Match: match, Count: true})
}

func (v viewSource) count(sp raftstore.Span) (int64, error) { return int64(v.Count(sp)), v.Err() }

// headSource is the state inside a transaction, which may walk most keys of it.
type headSource struct {
	*sequencer.KV
	most int
}

func (h headSource) far() error {
	if h.Walked() > h.most {
		return errTooFar
	}
	return nil
}

// Err implements source: what is newest goes with no compaction.
func (headSource) Err() error { return nil }

func (h headSource) scan(sp raftstore.Span, limit int, match func(*raftstore.Record) bool) (p raftstore.Page, err error) {
	for r := range h.Range(sp.From, sp.To) {
		if err := h.far(); err != nil {
			return raftstore.Page{}, err
		}
		p.Count++
		switch {
		case match != nil && !match(r):
		case limit > 0 && len(p.Records) == limit:
			p.More = true
		default:
			p.Records = append(p.Records, r)
		}
	}
	return p, nil
}

func (h headSource) count(sp raftstore.Span) (n int64, err error) {
	for range h.Range(sp.From, sp.To) {
		if err := h.far(); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// past is the state at the revision of a request, or now's own.
func past(v *raftstore.View, rev int64) (*raftstore.View, error) {
	if rev <= 0 {
		return v, nil
	}
	at, err := v.At(uint64(rev))
	return at, historyError(err)
}

// historyError is etcd's error for one about revisions.
func historyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftstore.ErrCompacted):
		return rpctypes.ErrGRPCCompacted
	case errors.Is(err, raftstore.ErrFuture):
		return rpctypes.ErrGRPCFutureRev
	}
	return err
}

// find answers a range request on a state that is already at the request's revision.
func find(src source, r *pb.RangeRequest) (selection, error) {
	var out selection
	if single(r.RangeEnd) {
		key := string(r.Key)
		rec, ok := src.Get(key)
		if err := src.Err(); err != nil {
			return out, historyError(err)
		}
		if !ok || !visible(key) {
			return out, nil
		}
		out.count = 1
		if match := filter(r); !r.CountOnly && (match == nil || match(rec)) {
			out.records = []*raftstore.Record{rec}
		}
		return out, nil
	}
	order := r.SortOrder
	if r.SortTarget != pb.RangeRequest_KEY && order == pb.RangeRequest_NONE {
		order = pb.RangeRequest_ASCEND // what etcd does
	}
	byKey := order == pb.RangeRequest_NONE || r.SortTarget == pb.RangeRequest_KEY && order == pb.RangeRequest_ASCEND
	limit := 0
	if byKey && r.Limit > 0 {
		limit = int(min(r.Limit, 1<<40))
	}
	match := filter(r)
	for _, sp := range shown(spanOf(r.Key, r.RangeEnd)) {
		if r.CountOnly || limit > 0 && len(out.records) == limit {
			n, err := src.count(sp)
			if err != nil {
				return selection{}, historyError(err)
			}
			out.count += n
			out.more = out.more || n > 0 && !r.CountOnly
			continue
		}
		p, err := src.scan(sp, max(limit-len(out.records), 0), match)
		if err != nil {
			return selection{}, historyError(err)
		}
		out.records = append(out.records, p.Records...)
		out.count += int64(p.Count)
		out.more = out.more || p.More
	}
	if !byKey {
		arrange(out.records, r.SortTarget, order == pb.RangeRequest_DESCEND)
		if r.Limit > 0 && int64(len(out.records)) > r.Limit {
			out.records, out.more = out.records[:r.Limit], true
		}
	}
	return out, nil
}

// filter is what a request asks of revisions, or nil.
func filter(r *pb.RangeRequest) func(*raftstore.Record) bool {
	if r.MinModRevision == 0 && r.MaxModRevision == 0 && r.MinCreateRevision == 0 && r.MaxCreateRevision == 0 {
		return nil
	}
	return func(rec *raftstore.Record) bool {
		mod, create := int64(rec.ModRev), int64(rec.CreateRev)
		return mod >= r.MinModRevision && (r.MaxModRevision == 0 || mod <= r.MaxModRevision) &&
			create >= r.MinCreateRevision && (r.MaxCreateRevision == 0 || create <= r.MaxCreateRevision)
	}
}

// arrange sorts records by what a request names.
func arrange(list []*raftstore.Record, by pb.RangeRequest_SortTarget, down bool) {
	slices.SortStableFunc(list, func(a, b *raftstore.Record) int {
		if down {
			a, b = b, a
		}
		switch by {
		case pb.RangeRequest_VERSION:
			return cmp.Compare(a.Version, b.Version)
		case pb.RangeRequest_CREATE:
			return cmp.Compare(a.CreateRev, b.CreateRev)
		case pb.RangeRequest_MOD:
			return cmp.Compare(a.ModRev, b.ModRev)
		case pb.RangeRequest_VALUE:
			return bytes.Compare(a.Value, b.Value)
		}
		return cmp.Compare(a.Key, b.Key)
	})
}
