// Package scheduler decides on which node a pod runs, and why not on the others.
//
// It is pure: (snapshot of nodes and their pods, pod) -> placement with a reason for every refused node. Ties are broken by a
// hash, never by chance or by map order. It may know object only. See DESIGN.md beside this file.
package scheduler
