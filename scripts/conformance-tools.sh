#!/usr/bin/env bash
# Builds Kubernetes' end-to-end tests (e2e.test) and the programs of their images from Kubernetes' module, once, into the project's cache folder, and
# prints that folder. The first build takes some minutes; nothing of it enters the repository.
set -euo pipefail
version=v1.36.3
dir="${RECONCILE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reconcile}/tools/conformance-$version-$(go env GOVERSION)"
export CGO_ENABLED=0 GOFLAGS=
cd "$(dirname "$0")/../bench/peer/conformance"
mkdir -p "$dir"
set=k8s.io/component-base/version
stamp="-X $set.gitVersion=$version -X $set.gitMajor=1 -X $set.gitMinor=36"
[ -x "$dir/e2e.test" ] || {
	echo "conformance-tools: building e2e.test $version (once, some minutes)" >&2
	go test -c -vet=off -trimpath -ldflags "-s -w $stamp" -o "$dir/.e2e.test" k8s.io/kubernetes/test/e2e
	mv "$dir/.e2e.test" "$dir/e2e.test"
}
[ -x "$dir/kubectl" ] || {
	echo "conformance-tools: building kubectl $version" >&2
	go build -trimpath -ldflags "-s -w $stamp" -o "$dir/.kubectl" k8s.io/kubernetes/cmd/kubectl
	mv "$dir/.kubectl" "$dir/kubectl"
}
[ -x "$dir/ginkgo" ] || {
	echo "conformance-tools: building ginkgo" >&2
	go build -trimpath -ldflags '-s -w' -o "$dir/.ginkgo" github.com/onsi/ginkgo/v2/ginkgo
	mv "$dir/.ginkgo" "$dir/ginkgo"
}
for program in agnhost nonewprivs resource-consumer resource-consumer/consume-cpu; do
	name=${program##*/}
	[ -x "$dir/$name" ] || {
		echo "conformance-tools: building $name" >&2
		go build -trimpath -ldflags '-s -w' -o "$dir/.$name" "k8s.io/kubernetes/test/images/$program"
		mv "$dir/.$name" "$dir/$name"
	}
done
echo "$dir"
