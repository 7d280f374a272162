// Package server wires one member of the control plane: keys, the shared port, the store, the sequencer with the controllers,
// the commits' way, and the API.
//
// It owns the order in which these start and stop, and the small adapters by which one room's type becomes the interface
// that another declared. It has no logic of its own: what a piece does stands in that piece's package. It may not know a
// machine's side (node, proxy, dns), which agent wires.
//
// How data passes through: connections of one port go by ALPN to raft, to the forwarder between servers, or to HTTP; HTTP
// goes to api, which reads the store and gives writes to the sequencer, and hands git's requests to gitops.
package server
