#!/usr/bin/env bash
# make deps: the Debian packages that building and running need; it says what it installs, and does nothing when all is there.
#   gcc, libc6-dev, libseccomp-dev, pkg-config   build the runtime helper (libcontainer needs cgo; the seccomp filters need libseccomp)
#   git, iproute2, nftables          `make run` pushes with git; ip and nft show what the network and the proxy made
#   curl                             `make run` fetches the page
# `scripts/deps.sh test` also installs what the tests use: qemu-system-x86 and ipvsadm for the VM tests, nsenter (util-linux), openssl, mkfs.ext4 (e2fsprogs),
# and a kubectl that is not ours (kubernetes-client, unless there is one).
set -euo pipefail
want=(gcc libc6-dev libseccomp-dev pkg-config git iproute2 nftables curl)
if [ "${1:-}" = test ]; then
	want+=(qemu-system-x86 ipvsadm util-linux openssl e2fsprogs)
	command -v kubectl >/dev/null || want+=(kubernetes-client)
fi
missing=()
for p in "${want[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "make deps: installing ${missing[*]} with apt-get"
[ "$(id -u)" = 0 ] || { echo "make deps: run it as root, or install ${missing[*]} yourself" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
