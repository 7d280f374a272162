// Package nftables balances services by nftables maps, programmed over netlink.
//
// It owns one nftables table, "reconcile" of family ip, and one local route for the service range. It knows the state of
// proxy/model and no objects. It never deletes its table: what a process programmed goes on without it.
//
// How data passes through: a Delta becomes one netlink batch, which the kernel takes whole or not at all; List reads the maps
// back into a State. The layout is in proxy/DESIGN.md.
package nftables
