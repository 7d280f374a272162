// Package node is the agent of one machine: it makes the machine's containers match the pods that are bound to it.
//
// It owns the pods' life cycle (pull, mount, network, start, probe, restart, stop) and reports their status; below it stand
// node/runtime (containers, through the embedded helper), node/image, node/network, node/volume, node/probe, node/stream and
// node/stats. It may not know the store, the cluster or the API: wanted pods come from a Source and statuses go to a Sink,
// both declared here, so that the agent is tested without raft and goes on without a server.
//
// How data passes through: pods from the Source are the want, what the runtime lists is the have, and each pod's worker
// applies the difference and writes the status back.
package node
