#!/usr/bin/env bash
# Builds etcd, etcdctl, etcdutl and etcd's benchmark from their Go modules, once, into the project's cache folder, and prints it. The benchmark comes from
# a module of its own: etcd 3.7's is not published, and 3.6's does not build beside 3.7.
set -euo pipefail
server=v3.7.3 benchmark=v3.6.8
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/etcd-$server-$benchmark-$(go env GOVERSION)"
export CGO_ENABLED=0 GOFLAGS=
module() { # module NAME: an empty module in a scratch folder
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	go mod init "scratch/$1" 2>/dev/null
}
mkdir -p "$dir"
[ -x "$dir/etcdctl" ] || (
	echo "etcd-tools: building etcdctl $server (once)" >&2
	module etcdctl
	go get -tool "go.etcd.io/etcd/etcdctl/v3@$server" 2>/dev/null
	go build -o "$dir/etcdctl" go.etcd.io/etcd/etcdctl/v3
)
[ -x "$dir/etcdutl" ] || (
	echo "etcd-tools: building etcdutl $server (once)" >&2
	module etcdutl
	go get -tool "go.etcd.io/etcd/etcdutl/v3@$server" 2>/dev/null
	go build -o "$dir/etcdutl" go.etcd.io/etcd/etcdutl/v3
)
[ -x "$dir/etcd" ] || (
	echo "etcd-tools: building etcd $server (once)" >&2
	module etcd
	printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n' >main.go
	go get "go.etcd.io/etcd/server/v3@$server" 2>/dev/null
	go build -o "$dir/etcd" .
)
[ -x "$dir/benchmark" ] || (
	echo "etcd-tools: building etcd's benchmark $benchmark (once)" >&2
	module benchmark
	go get -tool "go.etcd.io/etcd/v3/tools/benchmark@$benchmark" 2>/dev/null
	go build -o "$dir/benchmark" go.etcd.io/etcd/v3/tools/benchmark
)
echo "$dir"
