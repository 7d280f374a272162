// Package agent wires one machine: the agent of its pods (node), its service rules (proxy) and its names (dns).
//
// It owns the order in which these start and stop, the choice of the kernel's load balancer, the machine's HTTPS endpoint and
// the supervision of the DNS process. It may not know the control plane: it reads and reports through client, which speaks
// HTTP to any of several servers.
//
// How data passes through: client is the Source of node, proxy and dns and the Sink of node; what they do to the machine stays
// when the agent ends, and the next one takes it over.
package agent
