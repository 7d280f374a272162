#!/usr/bin/env bash
# clients.sh [ARGUMENTS OF THE TEST]: runs e2e/clients, whose dependencies are a module of their own, against a cluster in a network namespace.
# Needs root and bin/reconcile.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
HELM3=$(scripts/helm.sh 3) HELM4=$(scripts/helm.sh 4)
go build -trimpath -ldflags '-s -w' -o "$tmp/toolbox" ./e2e/toolbox
export HELM3 HELM4 TOOLBOX="$tmp/toolbox" RECONCILE_BIN="$PWD/bin/reconcile"
cd e2e/clients
go vet ./...
go test -c -o "$tmp/clients.test" .
../../bench/netns.sh "$tmp/clients.test" -test.timeout 10m "$@"
