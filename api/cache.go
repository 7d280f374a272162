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

// byteCache keeps encoded bytes within a bound. It has two generations: what was not asked for while one filled is dropped.
// It is safe for use by several goroutines.
type byteCache struct {
	mu       sync.Mutex
	max      int64
	size     int64
	now, old map[cacheKey][]byte
}

func newByteCache(limit int64) *byteCache {
	return &byteCache{max: limit / 2, now: map[cacheKey][]byte{}}
}

// get returns shared bytes: the caller must not change them.
func (c *byteCache) get(k cacheKey) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.now[k]; ok {
		return b, true
	}
	b, ok := c.old[k]
	if ok {
		c.add(k, b)
	}
	return b, ok
}

// put stores bytes, which are the cache's and its readers' from then on.
func (c *byteCache) put(k cacheKey, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, b)
}

func (c *byteCache) add(k cacheKey, b []byte) {
	n := int64(len(b)) + 64
	if n > c.max {
		return
	}
	if c.size+n > c.max {
		c.old, c.now, c.size = c.now, map[cacheKey][]byte{}, 0
	}
	c.now[k] = b
	c.size += n
}
