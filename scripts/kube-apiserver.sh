#!/usr/bin/env bash
# Builds kube-apiserver from its Go modules, once, into the project's cache folder, and prints its path. The judge and the benchmark of the API set
# it beside our server. Its staging modules are asked for by version, so the module that builds it needs no replace lines.
set -euo pipefail
version=v1.36.3
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/kube-apiserver-$version-$(go env GOVERSION)"
export CGO_ENABLED=0 GOFLAGS=
[ -x "$dir/kube-apiserver" ] || (
	echo "kube-apiserver: building $version (once, some minutes)" >&2
	mkdir -p "$dir"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	go mod init scratch/kube-apiserver 2>/dev/null
	go mod download "k8s.io/kubernetes@$version"
	staging=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' | xargs sed -n 's|^\t\(k8s.io/[^ ]*\) v0.0.0$|\1|p') # those that it requires
	for module in $staging; do go mod edit -require "$module@v0${version#v1}"; done
	go get -tool "k8s.io/kubernetes/cmd/kube-apiserver@$version"
	set=k8s.io/component-base/version
	go build -trimpath -ldflags "-s -w -X $set.gitVersion=$version -X $set.gitMajor=1 -X $set.gitMinor=36" -o "$dir/.kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
	mv "$dir/.kube-apiserver" "$dir/kube-apiserver"
)
echo "$dir/kube-apiserver"
