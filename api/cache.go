package api

import (
	"sync"

	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// encoding names one encoded form of one version of an object.
type encoding uint8

const (
	encodeJSON encoding = iota
	encodeProto
	encodePartial // PartialObjectMetadata as JSON, without managed fields, for rows of tables
)

// cacheKey names encoded bytes. Every write of an object has a revision of its own, so the revision names the version. gone tells
// that these are the bytes of an object as its deletion or its leaving of a selection reports it: the old content with a new revision.
// as is the API version, empty for the stored one.
type cacheKey struct {
	rev  string
	form encoding
	gone bool
	as   string
	// event is the type of the event whose frame these bytes are, empty for an object's own.
	event apiwatch.EventType
}

// cache keeps what was made once within a bound. It has two generations: what was not asked for while one filled is dropped.
// It is safe for use by several goroutines.
type cache[K comparable, V any] struct {
	mu       sync.Mutex
	max      int64
	size     int64
	bytes    func(V) int
	now, old map[K]V
}

// byteCache keeps encoded bytes. What get returns is shared: the caller must not change it; what put is given is the cache's and its readers' from
// then on.
type byteCache = cache[cacheKey, []byte]

func newByteCache(limit int64) *byteCache {
	return newCache[cacheKey](limit, func(b []byte) int { return len(b) + 64 })
}

// newCache makes a cache for values that take so many bytes each.
func newCache[K comparable, V any](limit int64, bytes func(V) int) *cache[K, V] {
	return &cache[K, V]{max: limit / 2, bytes: bytes, now: map[K]V{}}
}

// get returns a shared value.
func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.now[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.add(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

func (c *cache[K, V]) add(k K, v V) {
	n := int64(c.bytes(v))
	if n > c.max {
		return
	}
	if c.size+n > c.max {
		c.old, c.now, c.size = c.now, map[K]V{}, 0
	}
	c.now[k] = v
	c.size += n
}
