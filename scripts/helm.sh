#!/usr/bin/env bash
# helm.sh 3|4: builds Helm from its Go module, once, into the project's cache folder, and prints its path.
set -euo pipefail
case "${1:-}" in
3) module=helm.sh/helm/v3 version=v3.22.0 ;;
4) module=helm.sh/helm/v4 version=v4.3.1 ;;
*) echo "usage: scripts/helm.sh 3|4" >&2; exit 2 ;;
esac
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/helm-$version-$(go env GOVERSION)"
export CGO_ENABLED=0 GOFLAGS=
[ -x "$dir/helm" ] || (
	echo "helm: building Helm $version (once, some minutes)" >&2
	mkdir -p "$dir"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	go mod init scratch/helm 2>/dev/null
	go get -tool "$module/cmd/helm@$version" 2>/dev/null
	go build -trimpath -ldflags "-s -w" -o "$dir/.helm" "$module/cmd/helm"
	mv "$dir/.helm" "$dir/helm"
)
echo "$dir/helm"
