// Package gitdoor is HTTP for git and for the commits' way: git's smart protocol at /git/cluster.git, and plan, diff and apply of a
// folder at /reconcile/v1.
//
// It owns status codes, content types, compression and who may come in; it keeps no state. It knows neither packs nor plans:
// what a request means is decided behind Door, which gitops implements.
//
// How data passes through: a request's body, unpacked if it was gzipped, is the reader, and the response, flushed after each
// message, is the writer of Door's functions; JSON bodies become gitops' request and response types.
package gitdoor
