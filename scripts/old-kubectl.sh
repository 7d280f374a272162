#!/usr/bin/env bash
# Builds a kubectl of an older minor from its Go module, once, into the project's cache folder, and prints its path. The end-to-end tests
# run the same commands with it and with the kubectl that is built in.
set -euo pipefail
version=v0.32.4
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/kubectl-$version-$(go env GOVERSION)"
export CGO_ENABLED=0 GOFLAGS=
[ -x "$dir/kubectl" ] || (
	echo "old-kubectl: building kubectl $version (once, a minute or two)" >&2
	mkdir -p "$dir"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	go mod init scratch/kubectl 2>/dev/null
	cat >main.go <<'END'
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
	os.Exit(0)
}
END
	go get "k8s.io/kubectl/pkg/cmd@$version" "k8s.io/kubectl/pkg/cmd/util@$version" "k8s.io/component-base/cli@$version" "k8s.io/client-go/plugin/pkg/client/auth@$version" 2>/dev/null
	set=k8s.io/component-base/version
	go build -trimpath -ldflags "-s -w -X $set.gitVersion=v1${version#v0} -X $set.gitMajor=1 -X $set.gitMinor=32" -o "$dir/.kubectl" .
	mv "$dir/.kubectl" "$dir/kubectl"
)
echo "$dir/kubectl"
