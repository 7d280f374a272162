// Package dns answers the names of services and pods on one node, and forwards all others.
//
// It owns a DNS server (miekg/dns) and the table of names that follow from Services, EndpointSlices and Pods, as the
// Kubernetes DNS specification 1.1 has them. It runs as a process of its own, so that a restart of the agent stops no answer;
// it follows the API by itself and keeps its last table in a file, so that it answers before, and without, any server. It may
// not know the store, the proxy or the agent.
//
// How data passes through: objects from a Source change a zone, an immutable table is swapped in, and queries read it without locks.
package dns
