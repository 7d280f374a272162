#!/usr/bin/env bash
# Fetches the kernel that the VM tests boot: Debian's cloud kernel, through apt, into a cache folder. Nothing is installed.
#
# usage: scripts/vmkernel.sh [FOLDER]     (default: ${XDG_CACHE_HOME:-$HOME/.cache}/reconcile/vmkernel)
# The folder then holds vmlinuz, modules/ and version. A second run does nothing.
set -euo pipefail

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile/vmkernel}
meta=linux-image-cloud-amd64

if [ -s "$folder/version" ]; then
	echo "vm-kernel: $(cat "$folder/version") is in $folder"
	exit 0
fi
for tool in apt-cache apt-get dpkg-deb; do
	command -v "$tool" >/dev/null || { echo "vm-kernel: $tool is missing: VM tests need a Debian or Ubuntu host" >&2; exit 1; }
done

package() { apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1; }
name=$(package)
if [ -z "$name" ]; then
	echo "vm-kernel: apt does not know $meta yet: apt-get update"
	apt-get update -qq
	name=$(package)
fi
[ -n "$name" ] || { echo "vm-kernel: apt has no package $meta" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work" # apt downloads as a user of its own
echo "vm-kernel: downloading $name with apt-get"
(cd "$work" && { apt-get download -qq "$name" || { apt-get update -qq && apt-get download -qq "$name"; }; })
echo "vm-kernel: unpacking it into $folder"
dpkg-deb -x "$work"/*.deb "$work/root"
mkdir -p "$folder"
rm -rf "$folder/modules"
cp "$work"/root/boot/vmlinuz-* "$folder/vmlinuz"
# Debian 12 has /lib/modules, later ones /usr/lib/modules.
cp -r "$(dirname "$(find "$work/root" -name modules.order | head -1)")" "$folder/modules"
echo "$name" >"$folder/version"
echo "vm-kernel: done, $(du -sh "$folder" | cut -f1)"
