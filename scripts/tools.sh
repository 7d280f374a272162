#!/usr/bin/env bash
# Builds the linter once, at a pinned version, into the project's cache folder, and prints its path.
set -euo pipefail
version=v2.15.0
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/golangci-lint-$version-$(go env GOVERSION)"
if [ ! -x "$dir/golangci-lint" ]; then
	echo "tools: building golangci-lint $version (once, some minutes)" >&2
	mkdir -p "$dir"
	GOBIN="$dir" GOFLAGS= CGO_ENABLED=0 go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
echo "$dir/golangci-lint"
