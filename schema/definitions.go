package schema

import _ "embed"

//go:generate go run reconcile/schema/generate

//go:embed definitions.cue
var definitions string

// Definitions is the text of definitions.cue: a closed definition of every kind that a repository may hold, by the kind's name
// ("#Deployment"), in package k8s. It needs no other file and no network.
func Definitions() string { return definitions }
