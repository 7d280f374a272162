// Package schema holds the rules that are written in CUE.
//
// It owns two things. constraints.cue is small: rules that Kubernetes' own validation does not have, checked on every object of
// a push within a millisecond. definitions/ is large: a closed definition of every kind, generated from the Go types
// (schema/generate), for editors and `cue vet` without a network; no push pays for it. It may know object and nothing else.
//
// How data passes through: an object's JSON is unified with the constraints of its kind in a CUE context that is thrown away
// after a number of objects, because a context never frees what it has seen.
package schema
