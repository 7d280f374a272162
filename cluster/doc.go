// Package cluster says which tables and indexes exist, and gives typed views and overlays of them.
//
// It owns the decoding of stored values into objects (once for each stored version, shared by all readers), the indexes (by
// owner, by node, unbound pods) and the copy-on-write overlay. It may know raftstore and object only.
//
// How data passes through: a raftstore.View becomes a View of objects; an Overlay puts writes on top of one and can list them
// as changes; watches of keys become watches of objects.
package cluster
