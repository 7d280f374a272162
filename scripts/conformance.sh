#!/usr/bin/env bash
# conformance.sh [ARGUMENTS]: runs Kubernetes' conformance suite against a cluster of ours (bench/peer/conformance), in a network namespace of its own.
#   -owners api-machinery,cli|all   whose specs; each is a file in bench/peer/conformance/sets
#   -focus REGEXP                   only these, those that are left out among them
#   -keep DIR                       the suite's output and report, and the machines' logs
#   -write docs/conformance.md      write the sections of these owners anew
# Needs root and bin/reconcile. The first time it builds the suite and its images, which takes some minutes and the network; later runs need none.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "conformance.sh: containers and network namespaces need root; run it as root" >&2; exit 1; }
export CGO_ENABLED=0
bin=${RECONCILE_BIN:-$PWD/bin/reconcile}
[ -x "$bin" ] || { echo "conformance.sh: $bin is not there: run make build" >&2; exit 1; }
images=$(scripts/conformance-images.sh)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
(
	cd bench/peer/conformance
	go vet ./...
	go build -trimpath -o "$tmp/conformance" .
	mkdir "$tmp/pause"
	go build -trimpath -ldflags '-s -w' -o "$tmp/pause/pause" ./pause
)
bench/netns.sh "$tmp/conformance" -bin "$bin" -tools "${images%/images}" -images "$images" -pause "$tmp/pause/pause" \
	-sets bench/peer/conformance/sets -commit "commit $commit" "$@"
