// Package runtime runs containers: it is what containerd and runc are to a kubelet, as a library and one small helper program.
//
// It owns pod sandboxes (pinned namespaces, the pod's cgroup, its /dev/shm) and containers (overlay root, process, log,
// exit code), their state on disk and the embedded helper that makes them. It knows no pod object, no image store and no
// network: layers, mounts and commands are given to it. See DESIGN.md beside it for what survives which death.
//
// How data passes through: a SandboxConfig or ContainerConfig is written to disk as JSON, the helper turns it into
// processes and becomes the container's shim, the shim writes logs and exit.json, and List reads it all back, also in
// a new process after the old one was killed.
package runtime
