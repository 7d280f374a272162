#!/usr/bin/env bash
# fuzz.sh TIME [PATTERN]: every fuzz target of the store and of the API (all that reads bytes from disk, other members or clients) for so long; the state
# machine (FuzzApply of raftstore) for five times as long. A finding is kept in testdata/fuzz of its package, as `go test` says.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=${CGO_ENABLED:-0}
time=$1 pattern=${2:-.}
seconds() { # seconds 1m30s
	local rest=$1 sum=0
	while [[ $rest =~ ^([0-9]+)([hms])(.*)$ ]]; do
		case ${BASH_REMATCH[2]} in
		h) sum=$((sum + 3600 * BASH_REMATCH[1])) ;;
		m) sum=$((sum + 60 * BASH_REMATCH[1])) ;;
		s) sum=$((sum + BASH_REMATCH[1])) ;;
		esac
		rest=${BASH_REMATCH[3]}
	done
	[ -z "$rest" ] && [ "$sum" -gt 0 ] || { echo "fuzz.sh: $1 is no time such as 1m30s" >&2; return 1; }
	echo "$sum"
}
each=$(seconds "$time")
for pkg in ./raftstore ./raftstore/wal ./raftstore/seal ./sequencer ./etcdapi ./object ./admission ./api ./client ./pki; do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' | grep -E "$pattern"); do
		n=$each
		[ "$pkg $target" != "./raftstore FuzzApply" ] || n=$((5 * each))
		echo "== $pkg $target, $n s"
		# Goroutines make coverage differ from run to run, and Go would look for a smaller input for a minute each time: ten tries are enough.
		if ! out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "${n}s" -fuzzminimizetime 10x "$pkg" 2>&1); then
			echo "$out"
			# At the end of the time Go's own fuzzer now and then calls the input that it was at too late; that is no finding.
			grep -q 'context deadline exceeded' <<<"$out" && ! grep -q 'Failing input' <<<"$out" || exit 1
		fi
		tail -n 3 <<<"$out" | grep '^fuzz' | tail -n 1 || true
	done
done
