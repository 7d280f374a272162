// Package network gives pods their addresses: the bridge, a veth pair a pod, routes to other nodes' pods, and masquerading of
// what leaves the cluster.
//
// It owns the bridge and the veths below it in the network namespace of the calling process, routes with protocol 187, one
// nftables table, and ROOT/addresses.json. Service rules belong to proxy. It knows no pod object: it is given a pod's UID and
// the path of its network namespace.
//
// How data passes through: Want is computed from the node's subnet and its peers, Have is read from the kernel, Diff gives
// the operations, and a Kernel (netlink, or the fake) applies them; addresses are written to disk before they are used.
package network
