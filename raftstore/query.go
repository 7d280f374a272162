package raftstore

import "github.com/google/btree"

// Span is a range of keys: From and what follows it, before To. An empty To has no end; the zero Span is all keys.
type Span struct{ From, To string }

// Key is the span of one key.
func Key(key string) Span { return Span{From: key, To: key + "\x00"} }

// Prefix is the span of the keys that begin with prefix.
func Prefix(prefix string) Span { return Span{From: prefix, To: prefixEnd(prefix)} }

// prefixEnd is the first key behind all that begin with prefix, or "" if there is none.
func prefixEnd(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}

// Contains tells whether the span holds a key.
func (s Span) Contains(key string) bool { return key >= s.From && (s.To == "" || key < s.To) }

// Query asks for records of a span, in the order of keys.
type Query struct {
	Span
	// After, if set, begins behind that key (before it with Reverse): the last key of the page before.
	After string
	// Reverse gives them in the opposite order.
	Reverse bool
	// Limit bounds the records; 0 does not.
	Limit int
	// Match, if set, leaves out the records for which it is false. They count for Page.Count and not for Limit.
	Match func(*Record) bool
	// Count asks for Page.Count: unless the span is all keys, the whole of it is walked (about 15 ns a key), whatever Limit says.
	Count bool
}

// Page is what a query found. Records are shared; who wants keys only takes those.
type Page struct {
	Records []*Record
	// More tells that the limit cut something off: go on with After.
	More bool
	// Count, if it was asked for, is the number of keys in the span, also before After, and whether they match or not.
	Count int
}

// Select runs a query. Its only error is ErrCompacted, for a view that At made.
func (v *View) Select(q Query) (Page, error) {
	var p Page
	sp := q.Span
	switch {
	case q.After == "":
	case q.Reverse && (sp.To == "" || q.After < sp.To):
		sp.To = q.After
	case !q.Reverse && q.After >= sp.From:
		sp.From = q.After + "\x00"
	}
	v.walk(sp, q.Reverse, func(r *Record) bool {
		if q.Match != nil && !q.Match(r) {
			return true
		}
		if q.Limit > 0 && len(p.Records) == q.Limit {
			p.More = true
			return false
		}
		p.Records = append(p.Records, r)
		return true
	})
	if q.Count {
		if q.Match == nil && q.After == "" && !p.More {
			p.Count = len(p.Records)
		} else {
			p.Count = v.Count(q.Span)
		}
	}
	if err := v.Err(); err != nil {
		return Page{}, err
	}
	return p, nil
}

// Count is the number of keys in a span. That of all keys costs nothing, else the span is walked: ask Err for a view that At made.
func (v *View) Count(sp Span) int {
	if !v.past && sp == (Span{}) {
		return v.keys.Len()
	}
	n := 0
	v.walk(sp, false, func(*Record) bool { n++; return true })
	return n
}

// walk calls fn for the records of a span as of the view's revision, until it returns false.
func (v *View) walk(sp Span, reverse bool, fn func(*Record) bool) {
	if !v.past {
		walkTree(v.keys, sp, reverse, fn)
		return
	}
	// What is deleted now may have been there: both tables are merged.
	graves := graveCursor{tree: v.graves, sp: sp, reverse: reverse}
	stopped := false
	give := func(r *Record) bool {
		if r = r.asOf(v.rev); r != nil && !fn(r) {
			stopped = true
		}
		return !stopped
	}
	walkTree(v.keys, sp, reverse, func(r *Record) bool {
		for g := graves.peek(); g != nil && (g.Key < r.Key) != reverse; g = graves.peek() {
			graves.pop()
			if !give(g) {
				return false
			}
		}
		return give(r)
	})
	for g := graves.peek(); g != nil && !stopped; g = graves.peek() {
		graves.pop()
		give(g)
	}
}

func walkTree(t *btree.BTreeG[*Record], sp Span, reverse bool, fn func(*Record) bool) {
	if !reverse {
		t.AscendGreaterOrEqual(&Record{Key: sp.From}, func(r *Record) bool {
			return (sp.To == "" || r.Key < sp.To) && fn(r)
		})
		return
	}
	down := func(r *Record) bool {
		if sp.To != "" && r.Key >= sp.To {
			return true // the end itself does not belong to the span
		}
		return r.Key >= sp.From && fn(r)
	}
	if sp.To == "" {
		t.Descend(down)
	} else {
		t.DescendLessOrEqual(&Record{Key: sp.To}, down)
	}
}

// graveCursor reads the table of deleted keys a piece at a time.
type graveCursor struct {
	tree    *btree.BTreeG[*Record]
	sp      Span
	reverse bool
	buf     []*Record
	done    bool
}

const graveChunk = 256

func (c *graveCursor) peek() *Record {
	if len(c.buf) == 0 && !c.done {
		c.done = true
		walkTree(c.tree, c.sp, c.reverse, func(r *Record) bool {
			if len(c.buf) == graveChunk {
				c.done = false
				return false
			}
			c.buf = append(c.buf, r)
			return true
		})
		if !c.done {
			if last := c.buf[len(c.buf)-1].Key; c.reverse {
				c.sp.To = last
			} else {
				c.sp.From = last + "\x00"
			}
		}
	}
	if len(c.buf) == 0 {
		return nil
	}
	return c.buf[0]
}

func (c *graveCursor) pop() { c.buf = c.buf[1:] }
