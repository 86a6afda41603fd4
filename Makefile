# `make help` lists the targets.
SHELL := /usr/bin/env bash -o pipefail
.DEFAULT_GOAL := help
PYTHON := python3
VENV   := .venv
MODEL_VENV := .venv-model
CLIENTS_VENV := .venv-clients
NODE   := test/e2e/node
PART   := all
SEEDS  := 500
FROM   := 1
MUTANT := all
FOR    := 10m
SEED   := 1
BIN    := bin

# Stamps carry the content of the locks: a changed lock makes a new set-up, a new date does not.
LOCKS := python/requirements/worker.txt python/requirements/dev.txt
sum    = $(shell cat $(1) | cksum | cut -d' ' -f1)
PYTHON_READY := $(VENV)/.complete-$(call sum,$(LOCKS))
PROGRAMS_READY := $(VENV)/.complete-programs-$(call sum,python/requirements/programs.txt)
CLIENTS_READY := $(CLIENTS_VENV)/.complete-$(call sum,python/requirements/clients.txt)
MODEL_READY  := $(MODEL_VENV)/.complete-$(call sum,python/requirements/model.txt)
NODE_READY   := $(NODE)/node_modules/.complete-$(call sum,$(NODE)/package-lock.json)

.PHONY: help setup build docker image up down demo bench test test-go test-python test-model sim mutants chaos test-mixed test-containers test-grafana lint clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(PROGRAMS_READY) $(CLIENTS_READY) $(NODE_READY) ## what the tests need: Python environments and the packages of the JavaScript clients

$(PYTHON_READY):
	./python/requirements/venv.sh $(VENV) $(PYTHON)
	@touch $@

$(PROGRAMS_READY): $(PYTHON_READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r python/requirements/programs.txt
	@touch $@

$(CLIENTS_READY):
	./python/requirements/venv.sh $(CLIENTS_VENV) $(PYTHON) clients
	@touch $@

$(MODEL_READY):
	./python/requirements/venv.sh $(MODEL_VENV) $(PYTHON) model
	@touch $@

$(NODE_READY):
	./$(NODE)/install.sh
	@touch $@

build: ## build the binaries into bin/ (BIN=DIR for another folder); the same sources give the same bytes anywhere
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./cmd/...

docker: # before anything is built
	@command -v docker >/dev/null && docker info >/dev/null 2>&1 || { echo "docker must be installed and its engine must run: without containers, use bin/dspex dev" >&2; exit 1; }

image: docker ## build the container image dspex (BASE=IMAGE for another base)
	CGO_ENABLED=0 GOOS=linux go build -trimpath -o bin/linux/ ./cmd/...
	docker build --tag dspex $(if $(BASE),--build-arg BASE=$(BASE)) .

up: image .env ## run docker-compose.yml; makes passwords in .env if there are none
	docker compose up --detach --wait
	@echo "Passwords are in .env. Next:  NATS_USER=client NATS_PASSWORD=\$$DSPEX_CLIENT_PASSWORD NATS_INBOX_PREFIX=_INBOX.client dspex health"

down: ## stop what `make up` started; jobs and sessions stay in their volumes
	docker compose down

# A letter in front: nats-server reads a password that looks like a number as one.
.env:
	umask 077; for user in DISPATCHER HOST CLIENT OPERATOR BACKUP; do \
	  echo "DSPEX_$${user}_PASSWORD=p$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; done >$@

test: test-go test-python test-grafana ## everything that must pass: vet, unit, race, contract and end-to-end tests, Python, real DSPy

test-go: setup
	go vet ./...
	DSPEX_TEST_PYTHON=$(abspath $(VENV))/bin/python DSPEX_TEST_CLIENTS_PYTHON=$(abspath $(CLIENTS_VENV))/bin/python go test -race -timeout 30m ./...

test-grafana: setup ## deploy/grafana.json by Grafana's model and Prometheus' parser, with the metrics of a deployment that runs
	cd test/grafana && DSPEX_TEST_PYTHON=$(abspath $(VENV))/bin/python go test .

test-python: setup
	cd python && PYTHONDONTWRITEBYTECODE= $(abspath $(VENV))/bin/python -m pytest -q

test-model: $(PYTHON_READY) $(MODEL_READY) ## twenty programs in plain DSPy and here, with a real model in llama.cpp's server; the first run fetches 0.3 GB
	DSPEX_TEST_PYTHON=$(abspath $(VENV))/bin/python DSPEX_TEST_MODEL_PYTHON=$(abspath $(MODEL_VENV))/bin/python \
	  go test -tags model ./test/model -v -count 1 -timeout 60m

test-mixed: ## hosts of an earlier commit and of this tree share their sessions; one account becomes several: EARLIER=COMMIT; needs the clone's history
	go test -tags mixed ./test/procs -run Earlier -v -count 1 $(if $(EARLIER),-earlier $(EARLIER))
	go test -tags mixed ./test/production -run EarlierVersion -v -count 1

test-containers: ## a real nats-server and docker-compose.yml; needs a Docker engine, or root and dockerd
	./test/containers/run.sh

demo: build ## start everything, run the documented examples through real DSPy, kill what runs them, let the model fail, stop
	bin/dspex demo

bench: $(PYTHON_READY) build ## measure speed and memory against the parts: PART=pipe,single (docs/benchmarks.md names all) BENCH="-json FILE"
	go build -o bin/ ./test/bench
	bin/bench -bin bin -python $(abspath $(VENV))/bin/python -part $(PART) $(BENCH)

sim: ## faults in fake time: SEEDS=10000 scenarios, FROM=1, one process a core; prints what struck and how a failure is repeated
	go test -c -o bin/sim.test ./test/sim
	cd test/sim && $(CURDIR)/bin/sim.test -test.run '^TestEveryPromiseHoldsUnderFaults$$' -test.timeout 0 -seeds $(SEEDS) -from $(FROM) -shards -1

mutants: export MUTANT := $(MUTANT)
mutants: ## the simulation must object to every rule that is left out: MUTANT="a name", or all
	go test ./test/mutants -v -timeout 0 -mutant "$$MUTANT"

chaos: ## three real brokers with accounts, dispatchers, hosts and two tenants: all are killed, stopped, cut off; FOR=10m SEED=1
	go test -tags chaos -c -o bin/chaos.test ./test/chaos
	cd test/chaos && $(CURDIR)/bin/chaos.test -test.run '^TestEveryPromise' -test.v -test.timeout 0 -for $(FOR) -seed $(SEED)

lint: $(PYTHON_READY) ## gofmt, vet, go mod tidy, golangci-lint, ruff, mypy
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	for module in . tools test/containers test/grafana; do go -C $$module mod tidy -diff || exit 1; done
	go -C tools build -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...
	for module in test/containers test/grafana; do (cd $$module && go vet ./... && ../../bin/golangci-lint run ./...) || exit 1; done
	cd python && $(abspath $(VENV))/bin/ruff check . && $(abspath $(VENV))/bin/ruff format --check . && $(abspath $(VENV))/bin/mypy

clean: ## remove what the build made
	rm -rf bin $(VENV) $(MODEL_VENV) $(CLIENTS_VENV) $(NODE)/node_modules
