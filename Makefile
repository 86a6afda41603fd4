# `make help` lists the targets.
SHELL := /usr/bin/env bash -o pipefail
.DEFAULT_GOAL := help
VENV  := .venv
STAMP := $(VENV)/.complete
LOCKS := python/requirements/worker.txt python/requirements/dev.txt

.PHONY: help build demo test test-go test-python lint clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the binaries into bin/
	go build -o bin/ ./cmd/...

test: test-go test-python ## everything that must pass: vet, unit and contract tests with the race detector, Python, real DSPy

test-go: $(STAMP)
	go vet ./...
	DSPEX_TEST_PYTHON=$(abspath $(VENV))/bin/python go test -race ./...

test-python: $(STAMP)
	cd python && PYTHONDONTWRITEBYTECODE= ../$(VENV)/bin/python -m pytest -q

$(STAMP): $(LOCKS)
	./python/requirements/venv.sh $(VENV)

demo: ## start everything, run the manual's examples through real DSPy, stop
	go run ./cmd/dspex demo

lint: $(STAMP) ## gofmt, vet, ruff, mypy
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	cd python && ../$(VENV)/bin/ruff check . && ../$(VENV)/bin/ruff format --check . && ../$(VENV)/bin/mypy

clean: ## remove what the build made
	rm -rf bin $(VENV)
