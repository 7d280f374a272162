package manifests

import (
	"container/list"
	"sync"
)

// cache keeps verdicts by key within a bound of bytes; the least recently used goes first. It is safe for concurrent use.
type cache struct {
	mu    sync.Mutex
	limit int
	used  int
	order *list.List
	rows  map[string]*list.Element
}

type row struct {
	key  string
	v    *verdict
	size int
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), rows: map[string]*list.Element{}}
}

func (c *cache) get(key string) (*verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.rows[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*row).v, true
}

// put stores a verdict; size is a measure of what it holds in bytes.
func (c *cache) put(key string, v *verdict, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.rows[key]; ok || size > c.limit {
		return
	}
	c.rows[key] = c.order.PushFront(&row{key, v, size})
	c.used += size
	for c.used > c.limit {
		last := c.order.Back()
		r := last.Value.(*row)
		c.order.Remove(last)
		delete(c.rows, r.key)
		c.used -= r.size
	}
}
