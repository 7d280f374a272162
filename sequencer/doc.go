// Package sequencer is the leader's single writer: every write of the cluster goes through it.
//
// It owns the speculative head (an overlay of what is proposed and not yet committed), the queue of requests, and the
// timers and leftovers of Settle. It takes requests as data (request.go), checks their preconditions on the head,
// allocates addresses, runs controller.Settle on an overlay, encodes all that changed with the revisions it will have,
// and proposes it as one raft entry; many requests share an entry. On a follower it forwards requests to the leader.
//
// It knows no HTTP, no git protocol and no machine. See DESIGN.md beside this file for its invariants.
package sequencer
