// Package raftstore is the replicated store: a log kept by hashicorp/raft, and a state machine of revisioned keys.
//
// It owns the log and its files, the state (keys with values and revisions, history for a bounded window), blobs by digest,
// snapshots, watches and the membership of servers. It knows no kind and imports nothing of ours: keys are strings, values
// are bytes. An entry carries decided puts and deletes and the revision it is based on; applying one calls no clock, no
// random source and no network, so that every member has the same state after the same entries.
//
// How data passes through: Propose frames an entry, raft replicates it, the state machine checks its checksum and its base
// revision and applies it as one block of revisions, then watchers are told.
package raftstore
