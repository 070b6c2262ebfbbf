# make help lists what there is.
SHELL := /bin/bash
GO ?= go
TOOLS := -modfile=.tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# The race detector needs a C compiler. Without one the tests still run, and say so.
ifneq ($(shell command -v $$($(GO) env CC)),)
RACE := -race
endif

.DEFAULT_GOAL := help
.PHONY: help run build test test-faults test-ledger lint generate generated screenshots fmt bench bench-workflows bench-discovery bench-billing trust-sim fuzz check tidy clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

run: ## Start the server with the demo: http://127.0.0.1:8080
	$(GO) run ./cmd/nexus serve --demo

build: ## Build bin/nexus, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/nexus ./cmd/nexus

test: ## Run all tests
ifndef RACE
	@echo 'no C compiler was found: the tests run without the race detector' >&2
endif
	$(GO) tool $(TOOLS) gotestsum --format pkgname-and-test-fails -- $(RACE) -timeout 10m ./...

test-faults: ## Run the fault tests for ten minutes, runs of workflows for one, and 20 000 worlds of the simulation
	NEXUS_FAULTS=10m $(GO) test -run TestFaults -timeout 25m -v ./cmd/nexus
	NEXUS_FAULTS=60s $(GO) test -run TestRunsOutliveTheirServers -timeout 10m -v ./cmd/nexus
	NEXUS_STRIPE_EVENTS=10000 $(GO) test -run TestDeliveries -timeout 10m -v ./adapters/stripepay
	NEXUS_SEEDS=20000 $(GO) test -run TestAnySeedOfTheWorldEndsWell -timeout 10m -v ./app

test-ledger: ## Try a million operations on each store's ledger, and 64 writers for half a minute each
	NEXUS_LEDGER_OPS=1000000 $(GO) test -run '^TestLedger$$' -timeout 3h -v ./adapters/memory ./adapters/sqlite ./adapters/postgres

lint: ## Run the linters
	$(GO) vet ./...
	$(GO) tool $(TOOLS) golangci-lint run ./...

generate: ## Make the Go code of the dashboard's templates
	$(GO) tool $(TOOLS) templ generate -path adapters/dashboard -log-level warn

screenshots: ## Take pictures of every page, with a made-up history
	$(GO) run ./adapters/dashboard/shots -out screenshots

generated: generate ## Check that generated files are what is committed
	git diff --exit-code -- '*_templ.go'

fmt: ## Format the code
	$(GO) tool $(TOOLS) golangci-lint fmt ./...

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 2s ./cmd/... ./adapters/sqlite/... ./domain/...
	$(GO) test -run '^$$' -bench '^BenchmarkLedger$$' -benchtime 1x ./adapters/postgres

trust-sim: ## Try the scores of trust on made-up markets, beside three others
	$(GO) run ./examples/trustsim -markets 10

bench-discovery: ## Ask 1 000 000 agents on PostgreSQL and 100 000 on SQLite
	NEXUS_TEST_SHARED_BUFFERS=2GB $(GO) test -run '^$$' -bench Discovery -benchtime 1x -timeout 30m ./adapters/postgres
	$(GO) test -run '^$$' -bench Discovery -benchtime 1x -timeout 30m ./adapters/sqlite

bench-billing: ## Report 90 days of usage over 1 000 000 entries on PostgreSQL
	$(GO) test -run '^$$' -bench Usage -benchtime 5x -timeout 10m ./adapters/postgres

bench-workflows: ## Run workflows here and on other engines, side by side
	cd .bench && $(GO) test -run '^$$' -bench Workflows -benchtime 1x -timeout 20m .

fuzz: ## Fuzz every decoder of strangers' bytes, 30 s each
	set -e; for p in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$p/*_test.go | sed 's/func //'); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 0x $$p; done; done

tidy: ## Check that go.mod is tidy
	$(GO) mod tidy -diff

check: tidy generated lint test ## The gate: everything that CI runs

clean: ## Remove what was built and the demo's data
	rm -rf bin nexus-data
