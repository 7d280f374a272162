# reconcile: every task is a target here; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED ?= 0

BIN := bin/reconcile
# kubectl, which is built in, tells its version to servers and to users; it is that of the k8s.io modules.
KUBE := 1.36.3
VERSIONS := -X main.version=$(shell git describe --tags --always --dirty 2>/dev/null || echo dev) -X k8s.io/component-base/version.gitVersion=v$(KUBE) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: helper
helper: node/runtime/embedded/helper node/runtime/embedded/shim ## build the runtime helper and the shim that bin/reconcile embeds

node/runtime/embedded/helper: go.mod $(wildcard node/runtime/helper/*.go node/runtime/bundle/*.go node/runtime/wire/*.go)
	@command -v gcc >/dev/null && command -v pkg-config >/dev/null && [ -e /usr/include/seccomp.h ] || { echo "make helper: gcc, pkg-config and libseccomp-dev are needed; run scripts/deps.sh" >&2; exit 1; }
	CGO_ENABLED=1 go build -tags "netgo osusergo seccomp" -trimpath -ldflags "-s -w -linkmode external -extldflags -static" -o $@ ./node/runtime/helper

node/runtime/embedded/shim: go.mod $(wildcard node/runtime/shim/*.go node/runtime/wire/*.go)
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $@ ./node/runtime/shim

.PHONY: build
build: helper ## build bin/reconcile
	go build -trimpath -ldflags '-s -w $(VERSIONS)' -o $(BIN) ./cmd/reconcile

.PHONY: deps
deps: ## install the Debian packages that building and running need, and say which
	@scripts/deps.sh

.PHONY: run
run: deps build ## a cluster on this machine, the example deployed, its page shown; Ctrl-C stops the servers
	@scripts/run.sh

.PHONY: demo
demo: deps build ## the same as run, and exit 0
	@scripts/run.sh --demo

.PHONY: clean-run
clean-run: ## remove what run made: containers, networks, rules and data
	@if [ ! -x $(BIN) ]; then echo "clean-run: nothing was built, so nothing runs"; elif [ -e run/lock ] || [ ! -d run/example ]; then \
		said=$$($(BIN) reset --data-dir ./run --yes); status=$$?; echo "$$said" | sed '/^the folder stays/d'; [ $$status = 0 ] || exit $$status; fi
	@if [ -d run ]; then rm -rf run/example run/up.log; rmdir --ignore-fail-on-non-empty run; \
		if [ -d run ]; then echo "clean-run: ./run stays, for it holds other things: $$(ls -A run | xargs)"; \
		else echo "clean-run: the try-out repository and the log are removed too, and ./run is gone"; fi; fi

.PHONY: vet
vet: ## gofmt and go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...

.PHONY: lint
lint: ## golangci-lint, at a pinned version, built once into the cache
	@linter=$$(scripts/tools.sh) && "$$linter" run ./...

# VM suites boot a machine each and want its two processors for themselves; the end-to-end tests need the binary.
VM_SUITES := reconcile/proxy/ipvs reconcile/internal/vmtest/cgroup2
E2E := reconcile/e2e
space := $(subst ,, )

.PHONY: unit
unit: helper ## unit, golden, property and simulation tests
	go test $$(go list ./... | grep -vxE '$(subst $(space),|,$(VM_SUITES) $(E2E))')
	CGO_ENABLED=1 go test ./node/runtime/helper

.PHONY: check
check: vet lint unit ## the fast part: vet, lint, unit, simulation

.PHONY: bench
bench: build ## measure pushes, real containers and memory, as docs/benchmarks.md tells; as root
	bench/netns.sh go run ./bench/push -replicas 3,100,1000
	bench/netns.sh go run ./bench/push -real -replicas 3,30
	bench/netns.sh go run ./bench/footprint
	bench/netns.sh go run ./bench/connections

.PHONY: bench-store
bench-store: ## measure the store beside etcd, which is built into the cache once; on the disk of BENCH_DIR
	go run ./bench/store -dir $${BENCH_DIR:-$${TMPDIR:-/tmp}} -keys 100000,1000000

.PHONY: bench-api
bench-api: ## measure the API beside kube-apiserver with etcd, both built into the cache once; on the disk of BENCH_DIR
	go run ./bench/api -dir $${BENCH_DIR:-$${TMPDIR:-/tmp}}

.PHONY: vm-kernel
vm-kernel: ## fetch the kernel that the VM tests boot, through apt, into a cache folder
	@scripts/vmkernel.sh

.PHONY: vm
vm: export VMTEST_REQUIRED = 1
vm: helper vm-kernel ## the proxy's suite on IPVS and the runtime's on cgroup v2, in a virtual machine, one after the other
	go test -p 1 -timeout 30m $(VM_SUITES)

.PHONY: e2e
e2e: build ## the whole: real git, kubectl, containers and nftables on machines made of network namespaces; E2E_RUN=TestX for one
	RECONCILE_BIN=$(CURDIR)/$(BIN) OLD_KUBECTL=$$(scripts/old-kubectl.sh) go test -timeout 15m $(if $(E2E_RUN),-v -run '$(E2E_RUN)') $(E2E)

.PHONY: clients
clients: build ## client-go, controller-runtime, Helm 3 and 4, Prometheus' discovery and k9s's requests against a cluster of ours; as root
	scripts/clients.sh

# The tests of faults want the two processors for themselves.
FAULTS_PKG := reconcile/internal/faulttest
# Power cuts and clocks of a whole virtual machine; at night only.
FAULTS_VM := reconcile/internal/vmtest/powercut reconcile/internal/vmtest/clocks

.PHONY: faults
faults: ## kills, power cuts, partitions and pauses of real members, at the figures before a merge; as root
	FAULTS=pr go test -tags failpoints -count 1 -timeout 20m -v $(if $(FAULT),-run '$(FAULT)') $(FAULTS_PKG)
	$(if $(FAULT),,go test -tags failpoints -count 1 -run SettingOfTheClock ./raftstore ./sequencer)

# What each fault may take in `make soak`; there are twenty.
SOAK ?= 4m

.PHONY: soak
soak: vm-kernel ## all faults at their nightly figures, each for at most SOAK (4m), the simulation of 5,000 nodes and 150,000 pods, the race detector, the controllers' judge on other courses each day, and all fuzzing; as root. FAULT_SEED=N draws the same again
	FAULTS=nightly FAULT_TIME=$(SOAK) go test -tags failpoints -count 1 -timeout 6h -v -p 1 $(if $(FAULT),-run '$(FAULT)') $(FAULTS_PKG) $(FAULTS_VM)
	$(if $(FAULT),,FAULTS=nightly go test -count 1 -timeout 1h -v -run NoDamageIsSilent ./raftstore)
	$(if $(FAULT),,SIM_NODES=5000 SIM_PODS=150000 SIM_ROUNDS=20 go test -count 1 -timeout 2h -v -run TestSimulation ./sequencer)
	$(if $(FAULT),,$(MAKE) race)
	$(if $(FAULT),,JUDGE_SEED=$$(date +%Y%m%d) $(MAKE) judge-controllers)
	$(if $(FAULT),,$(MAKE) fuzz FUZZ=$(SOAK))

# What shares memory between goroutines: the store, its views, the writer with its kept snapshots, and the API's watches.
RACE_PKGS := ./raftstore/... ./cluster ./sequencer ./server/usage ./node/scrape ./node/stream
RACE_API := Watch|Cache

.PHONY: race
race: ## the tests of what shares memory, with Go's race detector; needs gcc
	CGO_ENABLED=1 go test -race -count 1 -timeout 30m $(RACE_PKGS)
	CGO_ENABLED=1 go test -race -count 1 -timeout 30m -run '$(RACE_API)' -skip 'SlowWatcher' ./api

# What each fuzz target may take; the state machine takes five times as long.
FUZZ ?= 30s

.PHONY: fuzz
fuzz: ## fuzz all that the store reads from disk, from other members and from clients, each for FUZZ (30s)
	scripts/fuzz.sh $(FUZZ)

.PHONY: mutants
mutants: ## plant ten known bugs, one after the other, and demand that the tests find each; as root
	go run ./internal/mutants

.PHONY: judge
judge: ## etcd's own judge over the store: three traffics with members killed, and three planted faults that it must find
	scripts/judge.sh

.PHONY: judge-short
judge-short:
	scripts/judge.sh short

# How many random courses each kind of workload plays.
JUDGE_COURSES ?= 300

.PHONY: judge-controllers
judge-controllers: ## Kubernetes' own workload controllers beside ours: JUDGE_COURSES random courses (300) of each kind must show the same
	cd bench/peer/controllers && JUDGE_COURSES=$(JUDGE_COURSES) go test -count 1 -timeout 60m .

.PHONY: conformance
conformance: build ## Kubernetes' own conformance suite against a cluster of ours; CONFORMANCE=ARGUMENTS of scripts/conformance.sh; as root
	scripts/conformance.sh $(CONFORMANCE)

# As many as a look before a merge may take.
.PHONY: judge-controllers-short
judge-controllers-short:
	$(MAKE) judge-controllers JUDGE_COURSES=25

# How many random courses of requests are played.
JUDGE_REQUESTS ?= 300

.PHONY: judge-apiserver
judge-apiserver: ## a real kube-apiserver with etcd beside our API: fixed and JUDGE_REQUESTS random courses of requests (300) must be answered the same
	tools=$$(scripts/etcd-tools.sh) && server=$$(scripts/kube-apiserver.sh) && cd bench/peer/apiserver && \
	ETCD=$$tools/etcd KUBE_APISERVER=$$server JUDGE_COURSES=$(JUDGE_REQUESTS) go test -count 1 -timeout 60m -v .

.PHONY: judge-apiserver-short
judge-apiserver-short:
	$(MAKE) judge-apiserver JUDGE_REQUESTS=100

# How many pairs of a node and a pod are judged.
JUDGE_PAIRS ?= 10000000
# How many pods that fit nowhere.
JUDGE_PREEMPTIONS ?= 100000

.PHONY: judge-scheduler
judge-scheduler: ## kube-scheduler's own plugins beside ours: JUDGE_PAIRS random pairs of node and pod (10,000,000) must have the same answers and scores
	cd bench/peer/scheduler && JUDGE_PAIRS=$(JUDGE_PAIRS) JUDGE_PREEMPTIONS=$(JUDGE_PREEMPTIONS) go test -count 1 -timeout 4h -v .

.PHONY: judge-scheduler-short
judge-scheduler-short:
	$(MAKE) judge-scheduler JUDGE_PAIRS=1000000 JUDGE_PREEMPTIONS=20000

.PHONY: bench-scheduler
bench-scheduler: ## kube-scheduler and ours place the same BENCH_PODS (1,000) pods in the same run: processor time a pod, and how even the outcome is
	cd bench/peer/scheduler && go test -count 1 -timeout 2h -run - -bench . -benchtime 1x .

.PHONY: test-deps
test-deps:
	@scripts/deps.sh test
	@scripts/etcd-tools.sh

.PHONY: test
# Nothing is skipped for want of a tool, of root or of a kernel module: see internal/needs.
test: export TEST_REQUIRED = 1
test: export VMTEST_REQUIRED = 1
test: test-deps vm-kernel check faults vm e2e clients judge-short judge-controllers-short judge-scheduler-short judge-apiserver-short ## everything that CI runs
