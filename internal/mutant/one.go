//go:build mutant_nosync || mutant_readstale || mutant_ackearly || mutant_oldhash || mutant_watchdrop || mutant_maporder || mutant_checksum || mutant_keephead || mutant_base || mutant_leasewall

package mutant

import (
	"time"

	"reconcile/internal/fp"
)

// The known bugs. One is in this build.
const (
	// NoSync: no write is synced.
	NoSync = planted == "nosync"
	// ReadWithoutBarrier: a linearizable read passes no barrier in a new term.
	ReadWithoutBarrier = planted == "readstale"
	// AckBeforeCommit: a write is acknowledged before it is committed.
	AckBeforeCommit = planted == "ackearly"
	// SkipOldValue: the old value (a ref's hash) is not compared.
	SkipOldValue = planted == "oldhash"
	// DropOnReconnect: a watch that goes on from a revision misses the first event.
	DropOnReconnect = planted == "watchdrop"
	// MapOrder: an entry's operations are applied in a map's order.
	MapOrder = planted == "maporder"
	// IgnoreChecksum: checksums of entries are not compared.
	IgnoreChecksum = planted == "checksum"
	// KeepHead: what was decided on an entry that failed is kept.
	KeepHead = planted == "keephead"
	// SkipBase: an entry's base revision is not compared.
	SkipBase = planted == "base"
	// LeaseByWallClock: leases run out by the wall clock.
	LeaseByWallClock = planted == "leasewall"
)

// Order is the order in which to go through a list: its own, or a map's.
func Order[T any](list []T) []T {
	if !MapOrder {
		return list
	}
	m := make(map[int]T, len(list))
	for i, v := range list {
		m[i] = v
	}
	out := make([]T, 0, len(list))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// LeaseNow is the time by which leases run out.
func LeaseNow() time.Time {
	if LeaseByWallClock {
		return fp.Wall()
	}
	return time.Now()
}
