package sequencer

import (
	"iter"
	"slices"
	"sort"

	"reconcile/raftstore"
)

// KV is the state that a transaction reads and writes: what is committed, the entries under way, and the transactions before it in its
// own entry. It has one user at a time. Records are shared: nobody changes one.
type KV struct {
	view *raftstore.View
	// layers lie on the view, the oldest first; the last one is layer.
	layers []*kvLayer
	// layer takes the writes of this entry, ops are they.
	layer *kvLayer
	ops   []raftstore.Op
	// base is the revision before this entry, rev that after the transactions so far.
	base, rev uint64
	// term is that in which the one who decides leads, 0 if nobody does.
	term uint64

	// began is where the present transaction began: its writes are ops[began.ops:], and undone is what the layer held before each.
	began  kvMark
	undone []kvUndo
	// walked is how many records the transaction's ranges have looked at.
	walked int
}

type kvMark struct {
	ops int
	rev uint64
}

type kvUndo struct {
	key string
	was *raftstore.Record // nil: the layer did not hold the key
	// other undoes what is no write of a key.
	other func()
}

// kvLayer is what one entry wrote. A record without a Version stands for a deletion.
type kvLayer struct {
	own map[string]*raftstore.Record
	// sorted are the keys in order; nil if they have to be sorted anew.
	sorted []string
	// leases are those that it granted (true) and ended (false).
	leases map[int64]bool
	// compacted is the revision up to which it compacted the history, or 0.
	compacted uint64
}

func newKVLayer() *kvLayer { return &kvLayer{own: map[string]*raftstore.Record{}} }

func (l *kvLayer) set(key string, r *raftstore.Record) {
	if l.sorted != nil && l.own[key] == nil {
		// Into its place: to sort all anew for each range would take a transaction that writes and reads by turns too long.
		at, _ := slices.BinarySearch(l.sorted, key)
		l.sorted = slices.Insert(l.sorted, at, key)
	}
	l.own[key] = r
}

// within are the layer's keys from start on and before end; an empty end is no end.
func (l *kvLayer) within(start, end string) []string {
	if l.sorted == nil && len(l.own) > 0 {
		l.sorted = make([]string, 0, len(l.own))
		for k := range l.own {
			l.sorted = append(l.sorted, k)
		}
		slices.Sort(l.sorted)
	}
	from := sort.SearchStrings(l.sorted, start)
	to := len(l.sorted)
	if end != "" {
		to = max(from, sort.SearchStrings(l.sorted, end))
	}
	return l.sorted[from:to]
}

// ReadKV is a KV for transactions that only read: what they write is lost.
func ReadKV(v *raftstore.View) *KV { return newKV(v, nil, v.Rev()) }

func newKV(v *raftstore.View, below []*kvLayer, base uint64) *KV {
	kv := &KV{view: v, layer: newKVLayer(), base: base, rev: base}
	kv.layers = append(slices.Clip(below), kv.layer)
	return kv
}

// Rev is the revision of the state before the present transaction, or its own once it has written.
func (kv *KV) Rev() uint64 { return kv.rev }

// View is the committed state below: for reads of older revisions.
func (kv *KV) View() *raftstore.View { return kv.view }

// Get returns the record of a key.
func (kv *KV) Get(key string) (*raftstore.Record, bool) {
	for i := len(kv.layers) - 1; i >= 0; i-- {
		if r, ok := kv.layers[i].own[key]; ok {
			return r, r.Version > 0
		}
	}
	return kv.view.Get(key)
}

// Range yields the records from the key start on and before end, in the order of keys; an empty end is no end. The state must not be
// written meanwhile.
func (kv *KV) Range(start, end string) iter.Seq[*raftstore.Record] {
	var over []string
	for _, l := range kv.layers {
		over = append(over, l.within(start, end)...)
	}
	slices.Sort(over)
	over = slices.Compact(over)
	kv.walked += len(over)
	return func(yield func(*raftstore.Record) bool) {
		rest := over
		for r := range kv.view.RangeFrom("", start) {
			if end != "" && r.Key >= end {
				break
			}
			kv.walked++
			for len(rest) > 0 && rest[0] < r.Key {
				if n, ok := kv.Get(rest[0]); ok && !yield(n) {
					return
				}
				rest = rest[1:]
			}
			if len(rest) > 0 && rest[0] == r.Key {
				n, ok := kv.Get(rest[0])
				if rest = rest[1:]; ok && !yield(n) {
					return
				}
				continue
			}
			if !yield(r) {
				return
			}
		}
		for _, key := range rest {
			if n, ok := kv.Get(key); ok && !yield(n) {
				return
			}
		}
	}
}

// begin marks where a transaction begins.
func (kv *KV) begin() {
	kv.began = kvMark{ops: len(kv.ops), rev: kv.rev}
	kv.undone = kv.undone[:0]
	kv.walked = 0
}

// Walked is how many records the present transaction's ranges have looked at, those under way too: what it has cost all others, who wait.
func (kv *KV) Walked() int { return kv.walked }

// Walk counts records that the transaction has looked at elsewhere, such as in an earlier state.
func (kv *KV) Walk(n int) { kv.walked += n }

// undo takes back what the transaction has written.
func (kv *KV) undo() {
	for i := len(kv.undone) - 1; i >= 0; i-- {
		switch u := kv.undone[i]; {
		case u.other != nil:
			u.other()
		case u.was == nil:
			delete(kv.layer.own, u.key)
			kv.layer.sorted = nil
		default:
			kv.layer.own[u.key] = u.was
		}
	}
	kv.ops, kv.rev = kv.ops[:kv.began.ops], kv.began.rev
	kv.undone = kv.undone[:0]
}

// write notes a record and its operation, under the transaction's one revision.
func (kv *KV) write(r *raftstore.Record, op raftstore.Op) {
	kv.note(r)
	kv.ops = append(kv.ops, op)
}

// note puts a record into the layer.
func (kv *KV) note(r *raftstore.Record) {
	kv.undone = append(kv.undone, kvUndo{key: r.Key, was: kv.layer.own[r.Key]})
	kv.layer.set(r.Key, r)
}

// next is the transaction's revision, and whether an earlier write of it has taken it already.
func (kv *KV) next() (shared bool) {
	if kv.rev > kv.began.rev {
		return true
	}
	kv.rev++
	return false
}

// Put stores a value, hung on a lease if that is not 0, and returns the record that was there before, or nil. The store keeps value.
// The lease must exist (Lease).
func (kv *KV) Put(key string, value []byte, lease int64) (prev *raftstore.Record) {
	prev, had := kv.Get(key)
	shared := kv.next()
	r := &raftstore.Record{Key: key, Value: value, ModRev: kv.rev, CreateRev: kv.rev, Version: 1, Lease: lease}
	if had {
		r.CreateRev, r.Version = prev.CreateRev, prev.Version+1
	} else {
		prev = nil
	}
	kv.write(r, raftstore.Op{Kind: raftstore.Put, Key: key, Value: value, Lease: lease, SameRev: shared})
	return prev
}

// NextRev is the revision that a write of the present transaction gets.
func (kv *KV) NextRev() uint64 { return kv.began.rev + 1 }

// Delete removes a key, if it is there.
func (kv *KV) Delete(key string) (prev *raftstore.Record) {
	prev, had := kv.Get(key)
	if !had {
		return nil
	}
	shared := kv.next()
	kv.write(&raftstore.Record{Key: key, ModRev: kv.rev}, raftstore.Op{Kind: raftstore.Delete, Key: key, SameRev: shared})
	return prev
}

// HasLease tells whether a lease exists.
func (kv *KV) HasLease(id int64) bool {
	for i := len(kv.layers) - 1; i >= 0; i-- {
		if has, ok := kv.layers[i].leases[id]; ok {
			return has
		}
	}
	_, ok := kv.view.Lease(id)
	return ok
}

// Grant makes a lease that does not exist, with a TTL in seconds. It takes no revision. Both numbers must be ones that
// raftstore.LeaseGrant takes: the store refuses the whole entry otherwise, with what others wrote in it.
func (kv *KV) Grant(id, ttl int64) {
	kv.setLease(id, true)
	kv.ops = append(kv.ops, raftstore.LeaseGrant(id, ttl))
}

// Revoke ends a lease and deletes the keys that hang on it, in order.
func (kv *KV) Revoke(id int64) { kv.revoke(raftstore.LeaseRevoke(id, 0, 0), id) }

func (kv *KV) revoke(op raftstore.Op, id int64) {
	// The operation itself deletes what hangs on the lease: only the layer has to know what.
	for _, key := range kv.leaseKeys(id) {
		kv.next()
		kv.note(&raftstore.Record{Key: key, ModRev: kv.rev})
	}
	kv.setLease(id, false)
	kv.ops = append(kv.ops, op)
}

func (kv *KV) setLease(id int64, has bool) {
	l := kv.layer
	if l.leases == nil {
		l.leases = map[int64]bool{}
	}
	was, had := l.leases[id]
	kv.undone = append(kv.undone, kvUndo{other: func() {
		if l.leases[id] = was; !had {
			delete(l.leases, id)
		}
	}})
	l.leases[id] = has
}

// leaseKeys are the keys that hang on a lease now.
func (kv *KV) leaseKeys(id int64) []string {
	var keys []string
	note := func(key string) {
		if r, ok := kv.Get(key); ok && r.Lease == id {
			keys = append(keys, key)
		}
	}
	for key := range kv.view.LeaseKeys(id) {
		note(key)
	}
	for _, l := range kv.layers {
		for key, r := range l.own {
			if r.Lease == id {
				note(key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Compacted is the revision up to which the history is compacted.
func (kv *KV) Compacted() uint64 {
	rev := kv.view.Floor()
	for _, l := range kv.layers {
		rev = max(rev, l.compacted)
	}
	return rev
}

// Compact forgets the history before rev. It takes no revision.
func (kv *KV) Compact(rev uint64) {
	l, was := kv.layer, kv.layer.compacted
	kv.undone = append(kv.undone, kvUndo{other: func() { l.compacted = was }})
	l.compacted = max(was, rev)
	kv.ops = append(kv.ops, raftstore.Compaction(rev))
}

// kv is the head for transactions.
func (t *tenure) kv() *KV {
	v := t.s.store.View()
	var below []*kvLayer
	rev := v.Rev()
	for _, f := range t.flights {
		if f.last <= v.Rev() {
			// It is in the view, or it takes no revision: then nothing tells whether it is.
			if f.kv != nil && (f.kv.leases != nil || f.kv.compacted > 0) {
				below = append(below, &kvLayer{leases: f.kv.leases, compacted: f.kv.compacted})
			}
			continue
		}
		if f.kv == nil {
			f.kv = layerOf(newKV(v, below, rev), f.ops)
		}
		below, rev = append(below, f.kv), f.last
	}
	kv := newKV(v, below, rev)
	kv.term = t.term
	return kv
}

// layerOf is what an entry's operations make of the state below them.
func layerOf(kv *KV, ops []raftstore.Op) *kvLayer {
	for _, op := range ops {
		if !op.SameRev {
			kv.begin()
		}
		switch op.Kind {
		case raftstore.Put, raftstore.PutRef:
			kv.Put(op.Key, op.Value, op.Lease)
		case raftstore.Delete:
			if kv.Delete(op.Key) == nil {
				kv.next() // a deletion of nothing takes a revision too
			}
		}
	}
	return kv.layer
}
