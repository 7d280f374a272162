// Package etcdapi serves etcd's v3 API over the cluster's own store: programs that know etcd (etcdctl, clientv3, Kubernetes' apiserver)
// read, write and watch keys beside the cluster's objects.
//
// It owns the meaning of etcd's requests: what a range, a put, a transaction, a watch and a lease come to, and which keys a client may
// touch. It owns no data: reads are answered from a raftstore view behind a read index, every write is a sequencer.Txn that is decided at
// the head of the one writer, and watches are places in the store's history. It may not know controllers, manifests or HTTP.
//
// A write: gRPC -> check (check.go) -> write (txn.go) -> sequencer, on a follower to the leader -> Decide at the head -> answer.
// A read: gRPC -> reads (read.go), one read index for all that wait -> view -> selection (range.go) -> bytes (wire.go).
// A watch: the store's history, which keeps each event's encoding and wakes what wants it (raftstore.WatchGroup) -> stream (watch.go)
package etcdapi
