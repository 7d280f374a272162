# reconcile: every task is a target here; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED ?= 0

BIN := bin/reconcile

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/reconcile
	go build -trimpath -ldflags '-s -w' -o $(BIN) ./cmd/reconcile

.PHONY: vet
vet: ## gofmt and go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...

.PHONY: unit
unit: ## unit, golden, property and simulation tests
	go test ./...

.PHONY: check
check: vet unit ## the fast part: vet, unit, simulation

.PHONY: test
test: check ## everything that CI runs
