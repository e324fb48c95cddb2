# Siskin. `make` alone lists what can be made.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
SCENARIO ?= promote
ARGS ?=
TOOLS := go tool -modfile=test/tools/go.mod
SLOWEST := ./rollout/controller # begins first, so that the others run beside it
BINARIES := rollout rollout-controller ingest serving energy local
IMAGE := rollout-controller ingest serving energy
CERTIFICATES ?= /etc/ssl/certs/ca-certificates.crt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: bin/local ## Watch a rollout: make demo [SCENARIO=promote|bad|errors|slow|shadow|silent|experiment|equal|lossy] [ARGS="--keep"]
	@bin/local --scenario $(SCENARIO) $(ARGS)

demos: bin/local ## Tell every scenario three times over; fails when one does not end as it must
	@for n in 1 2 3; do for s in promote bad errors slow shadow silent experiment equal lossy; do \
	  bin/local --plain --scenario $$s | tail -n 6; done; done

build: $(BINARIES:%=bin/%) ## Build the binaries into bin/

bin/%: FORCE
	@go build -o $@ ./cmd/$*

image-files: $(IMAGE:%=bin/image/%) ## Build what the Dockerfile puts into the image: static binaries (GOARCH=... for other nodes) and certificates
	@install -D -m 644 $(CERTIFICATES) bin/image/etc/ssl/certs/ca-certificates.crt

bin/image/%: FORCE
	@CGO_ENABLED=0 GOOS=linux go build -o $@ ./cmd/$*

test: ## Run the tests
	go test -timeout 30m ./cmd/local # its stories run in real time: nothing beside them
	go test -timeout 30m $(SLOWEST) $$(go list ./... | grep -v 'cmd/local$$')

race: ## Run the tests under the race detector
	go test -race -short -timeout 30m $(SLOWEST) ./...

e2e: ## Test against real programs (Debian: redis-server, prometheus, prometheus-alertmanager); builds Istio and Kubernetes once
	cd test && go run ./programs && go test -count=1 -timeout 30m ./...
	SISKIN_REQUIRE_REDIS=1 go test -count=1 ./ingest/redis

e2e-long: ## Promote and take back 50 rollouts under calls of which none may fail, on both data planes (minutes)
	cd test && go run ./programs && go test -count=1 -v -timeout 60m -run '^Test(Proxyless|Gateway)$$' ./controlplane -args -rounds=50

chaos: ## Kill the controller 20 times during a rollout; abort one of 1,000 rollouts
	go test -p 1 -count=1 -v -timeout 20m ./rollout/controller ./cmd/local/chaos -args -chaos

bench: ## Print gateway and model speed beside their peers
	@for p in ./mesh/gateway ./serving/trees; do \
	  go test -count=1 -v $$p -run '^TestBenchTable$$' -args -bench-table | grep -vE '^(=== |--- |PASS|ok )'; done

bench-judge: ## Measure the judge on simulated traffic beside other controllers' rules (minutes)
	@go test -count=1 -v -timeout 60m ./rollout/backtest -run '^TestBenchJudge$$' -args -bench-judge $(ARGS) | grep -vE '^(=== |ok )'

fuzz: ## Fuzz every parser of foreign bytes for 10 s each
	@for t in $$(grep -rlE '^func Fuzz' --include=*_test.go . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$t/*_test.go | cut -c6-); do \
	    go test $$t -run '^$$' -fuzz "^$$f$$" -fuzztime 10s; done; done

lint: ## Run the linters
	$(TOOLS) golangci-lint run ./...

generate: ## Write generated code, CRDs, dashboards and golden files' sources again
	go generate ./...

verify: generate ## Fail when generated files, formatting or go.mod are not current
	go mod tidy
	$(TOOLS) golangci-lint fmt ./...
	@git diff --exit-code --stat || { echo "generated files, formatting or go.mod are not current: run make verify and commit"; exit 1; }

clean: ## Remove what was built
	rm -rf bin

FORCE:
.PHONY: help demo demos build test race e2e e2e-long chaos bench bench-judge fuzz lint generate verify clean FORCE
.DEFAULT_GOAL := help
