// Package model is the pure half of the service proxy: from Services, EndpointSlices and facts of one node to the state that
// the node's kernel load balancer is wanted in, and from two states to the ordered operations between them.
//
// It owns the shape of that state (State, Service, Frontend, Backend), the rules of the Service API (which ports, which
// endpoints, which traffic policy), the difference (Diff) and its printed form, and an incremental index by which one
// endpoint's change costs only its own service. It may not know the clock, the network, a kernel or a goroutine.
//
// How data passes through: objects go into an Index one by one; Advance returns the Delta since the last call and State the
// whole; a kernel applies a Delta. For a plan, Rules gives the same services as lines, seen from no node.
package model
