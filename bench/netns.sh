#!/usr/bin/env bash
# netns.sh COMMAND...: runs a command in a network namespace of its own, with loopback and one address, so that the cluster it starts
# meets no other one of this machine. Everything of the namespace is gone when the command has ended. Needs root.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: bench/netns.sh COMMAND..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "bench/netns.sh: a network namespace needs root; run it as root" >&2; exit 1; }
exec unshare --net --mount --propagation private bash -euc '
	ip link set lo up
	ip link add outside type bridge
	ip address add 192.0.2.1/24 dev outside
	ip link set outside up
	ip route add default via 192.0.2.254
	exec "$@"' netns "$@"
