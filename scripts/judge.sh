#!/usr/bin/env bash
# judge.sh [short]: etcd's own judge over our store (bench/peer/etcd): three kinds of traffic on three members that are killed in turn must all be
# Success, and each of three faults planted on purpose must be found. `short` is one traffic and one fault, in about half a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/member" ./bench/store/member
(cd bench/peer/etcd && go build -o "$bin/judge" .)
keep=${JUDGE_KEEP:-}
fault() { # fault TAG TRAFFIC LENGTH
	go build -tags "mutant_$1" -o "$bin/member_$1" ./bench/store/member
	echo "with the fault $1 planted:"
	"$bin/judge" -member "$bin/member_$1" -traffic "$2" -length "$3" -kill 0s -expect failure
}
if [ "${1:-}" = short ]; then
	"$bin/judge" -member "$bin/member" -traffic Locks,EtcdPutDeleteLease -length 8s -kill 3s ${keep:+-keep "$keep"}
	fault stale_read EtcdPut 5s
	exit
fi
"$bin/judge" -member "$bin/member" -traffic Locks,EtcdPut,EtcdPutDeleteLease,Kubernetes -length "${JUDGE_LENGTH:-30s}" -kill 4s ${keep:+-keep "$keep"}
fault stale_read EtcdPut 10s
fault lost_event EtcdPut 10s
fault lost_write EtcdPut 10s
