//go:build !mutant_nosync && !mutant_readstale && !mutant_ackearly && !mutant_oldhash && !mutant_watchdrop && !mutant_maporder && !mutant_checksum && !mutant_keephead && !mutant_base && !mutant_leasewall

package mutant

import "time"

// The known bugs. None is in this build.
const (
	// NoSync: no write is synced.
	NoSync = false
	// ReadWithoutBarrier: a linearizable read passes no barrier in a new term.
	ReadWithoutBarrier = false
	// AckBeforeCommit: a write is acknowledged before it is committed.
	AckBeforeCommit = false
	// SkipOldValue: the old value (a ref's hash) is not compared.
	SkipOldValue = false
	// DropOnReconnect: a watch that goes on from a revision misses the first event.
	DropOnReconnect = false
	// MapOrder: an entry's operations are applied in a map's order.
	MapOrder = false
	// IgnoreChecksum: checksums of entries are not compared.
	IgnoreChecksum = false
	// KeepHead: what was decided on an entry that failed is kept.
	KeepHead = false
	// SkipBase: an entry's base revision is not compared.
	SkipBase = false
	// LeaseByWallClock: leases run out by the wall clock.
	LeaseByWallClock = false
)

// Order is the order in which to go through a list: its own.
func Order[T any](list []T) []T { return list }

// LeaseNow is the time by which leases run out.
func LeaseNow() time.Time { return time.Now() }
