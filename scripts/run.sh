#!/usr/bin/env bash
# make run: a whole cluster on this machine, the example pushed to it, and its page. With --demo it stops the servers at the
# end instead of waiting for Ctrl-C. The containers stay in both cases; `make clean-run` removes everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
demo=
[ "${1:-}" = --demo ] && demo=1
bin=$PWD/bin/reconcile
data=$PWD/run
repo=$data/example/guestbook
# The cluster has an authority of its own, which `reconcile remote add` tells git; this variable would override it.
unset GIT_SSL_CAINFO
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold= plain=; fi
say() { printf '%s\n' "$bold== $*$plain"; }
show() { printf '%s\n' "$bold\$ $*$plain"; }

[ "$(id -u)" = 0 ] || { echo "make run: containers, networks and service rules need root; run it as root" >&2; exit 1; }
if [ -d "$data/example" ] && [ ! -e "$data/lock" ]; then
	echo "make run: the cluster of ./run is gone, and its try-out repository run/example is left: make clean-run removes that too" >&2
	exit 1
fi
mkdir -p "$data"

say "starting the cluster: reconcile up --data-dir ./run (its log: run/up.log)"
started=$(date +%s%N)
# Emptied here and not by the server, so that no line of an earlier run is taken for one of this.
: >"$data/up.log"
"$bin" up --data-dir "$data" >"$data/up.log" 2>&1 &
up=$!
# stop ends the servers; an interrupt may have ended them already.
stop() {
	trap - INT TERM EXIT
	[ -z "${tail:-}" ] || kill "$tail" 2>/dev/null || true
	if kill -0 "$up" 2>/dev/null; then
		say "stopping the servers"
		kill -TERM "$up"
	elif [ -z "${1:-}" ]; then
		return
	fi
	wait "$up" || true
	say "the containers go on running: make run comes back to them, make clean-run removes all"
}
# Ctrl-C is how this ends: no failure, unless something of the above was cut off.
served=
interrupted() {
	echo
	stop interrupted
	[ -n "$served" ] || { echo "make run: interrupted before the page was there; run it again" >&2; exit 130; }
	exit 0
}
trap interrupted INT TERM
trap stop EXIT
for _ in $(seq 300); do
	grep -qs "^ready" "$data/up.log" && break
	if ! kill -0 "$up" 2>/dev/null; then
		echo "make run: reconcile up has ended; the end of run/up.log says:" >&2
		tail -n 20 "$data/up.log" >&2
		exit 1
	fi
	sleep 0.1
done
grep -q '^ready' "$data/up.log" || { echo "make run: no line 'ready' in run/up.log after 30 s" >&2; exit 1; }
grep -E '^(api|git|ready)' "$data/up.log" || true
say "ready after $((($(date +%s%N) - started) / 1000000)) ms"

mkdir -p "$data/example"
say "building the example's two images: one static binary each, no registry"
for name in web store; do
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$data/example/$name" "./examples/guestbook/$name"
	show "reconcile image build -t guestbook-$name:v1 run/example/$name"
	"$bin" image build --data-dir "$data" -t "guestbook-$name:v1" "$data/example/$name"
done

say "pushing examples/guestbook/deploy"
if [ ! -d "$repo/.git" ]; then
	mkdir -p "$repo"
	git -C "$repo" init -q -b main
	git -C "$repo" config user.name "${GIT_AUTHOR_NAME:-you}"
	git -C "$repo" config user.email "${GIT_AUTHOR_EMAIL:-you@example.com}"
	# Once only: a later run must not undo what was tried out in it.
	cp -r examples/guestbook/deploy/. "$repo/"
fi
(cd "$repo" && "$bin" remote add --data-dir "$data" cluster)
git -C "$repo" add -A
git -C "$repo" diff --cached --quiet || git -C "$repo" commit -qm "guestbook: deploy"
show "git push cluster main"
# The repository is the user's after the first run: what is wrong in it, or moved main elsewhere, is told and stops nothing.
if ! git -C "$repo" push cluster main; then
	[ -n "$(git -C "$repo" rev-parse -q --verify refs/remotes/cluster/main)" ] || exit 1
	git -C "$repo" fetch -q cluster main
	say "that push was refused, see above: mend $repo and push again; what was pushed before goes on running"
fi

say "waiting until the commit is healthy"
commit=$(git -C "$repo" rev-parse refs/remotes/cluster/main)
show "reconcile status $commit --watch"
timeout 120 "$bin" status --data-dir "$data" "$commit" --watch

say "the page, through the service's address"
address=$("$bin" kubectl --kubeconfig "$data/admin.kubeconfig" get service web -n guestbook -o 'jsonpath={.spec.clusterIP}')
show "curl http://$address/"
curl -fsS --max-time 10 --retry 5 --retry-connrefused "http://$address/"

again=
[ -z "$demo" ] || again=" (after make run, which keeps the servers)"
cat <<EOT

Try next$again, in another terminal:
  export KUBECONFIG=$data/admin.kubeconfig
  $bin kubectl get pods -A -o wide
  curl -d 'name=you&text=hello' http://$address/ && curl http://$address/
  cd $repo && sed -i 's/replicas: 3/replicas: 5/' web.yaml && git commit -qam 'web: five replicas'
  git push cluster HEAD:refs/plan/main      # what would happen
  git push cluster main                     # make it so
EOT
if [ -n "$demo" ]; then
	exit 0
fi
served=1
say "running; Ctrl-C stops the servers and leaves the containers"
tail -n 0 -F "$data/up.log" 2>/dev/null &
tail=$!
wait "$up"
