// Package harness starts a reconcile binary for a measurement and talks to it as a user does: with git, kubectl's
// kubeconfig and plain HTTP.
//
// It owns the processes and folders that it made, and removes them on Stop. It knows the command line only, nothing of what
// is inside.
package harness
