// Package ipvs balances services by the kernel's IP virtual server.
//
// It owns the virtual services of its network namespace, one local route for the service range, and a small nftables table for
// what IPVS cannot say: masquerading, hairpin, and that no daemon of the node answers on a service's address. It knows the
// state of proxy/model and no objects. It leaves all of it in place when it ends.
//
// How data passes through: a Delta becomes pipelined netlink messages; List reads services and destinations back into a State.
// The mechanisms are in proxy/DESIGN.md.
package ipvs
