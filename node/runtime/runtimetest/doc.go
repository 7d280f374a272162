// Package runtimetest is the suite that every Runtime passes: Contract for the real one and the fake, Kernel for what only real
// containers show (logs, limits, namespaces, deaths). It runs as root here on cgroup v1 and in a VM on cgroup v2.
//
// It owns the guest program that runs in the containers and the names of what it makes; a Harness gives it a runtime. It
// leaves nothing behind: each Harness checks that.
package runtimetest
