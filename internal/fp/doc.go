// Package fp marks the places in the code at which a fault test may hold a process up, kill it or make a call fail.
//
// It owns the names and, in a build with the tag "failpoints", what happens at each. In every other build Hit and Err are empty, take no
// memory and are compiled to nothing. It knows no other package.
//
// How data passes through: the code says fp.Hit("raftstore/read-verified"); a member of a fault test is told over its port, or by the
// variable RECONCILE_FAILPOINTS when it starts, what to do there: "name=sleep:200ms", "name=exit", "name=error:text", "wall=skew:1h", each with "@N" at the
// end if it is to happen from the Nth time on only, several separated by ";".
package fp
