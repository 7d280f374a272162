// Package git is a git server without a disk: the smart protocol's receive-pack and upload-pack over readers and writers, and
// a repository in memory that is made of the packs which the cluster's store keeps.
//
// It owns the protocol (pkt-lines, capabilities, side-band, report-status), the quarantine in which a push's objects stand
// until they are accepted, the limits and checks that a pack must pass, and the reading of commits and trees. It may not know
// HTTP, raft or any kind: where packs and refs are kept is behind Store, and whether a push is accepted is decided by a
// Receiver. It never writes a worktree and never runs a git process. From go-git it takes the pack format alone (scanner,
// deltas, encoder), because go-git's own server loses thin packs, atomicity and concurrent updates.
//
// How data passes through: a request's pkt-lines become a Push (commands, options, pack); the pack is unpacked into a
// Quarantine above the repository's objects; limits, links and names are checked; the Receiver decides and stores the pack and
// the refs; its answer goes back as report-status, its words as "remote:" lines. Reading goes the other way: wants and haves
// become a list of objects, which is encoded as one pack.
package git
