// Package commitgen makes random commits of a repository of manifests, one after another, as a team would make them: applications
// come, scale, change image, strategy, ports and configuration, move to another file, and go.
//
// It owns the state of the repository that it plays and nothing else. It knows Kubernetes' YAML and no code of ours, so that what it
// writes is judged by the code under test alone. Every tree that it makes is valid.
//
// How data passes through: choices come from a Source (math/rand/v2's Rand, or a property test's draws), Next changes the state and
// writes the whole tree.
package commitgen
