# qanat: every target makes the environment it needs in .venv. `make` alone says what there is.
# A fresh machine needs Python 3.11 (or later) and make, nothing else.

PYTHON     ?= $(shell command -v python3.11 || command -v python3)
VENV       := .venv
BIN        := $(VENV)/bin
PIP        := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUNTIME    := $(VENV)/.runtime
DEV        := $(VENV)/.dev

HOUSEHOLDS ?= 500
SECONDS    ?= 60
REAL       ?=
WORKERS    ?= auto
TESTS      ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench services clean

help: ## what there is
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(RUNTIME) ## a simulated fleet through the whole path, live (HOUSEHOLDS=500 SECONDS=60, REAL=FOLDER for recordings)
	@$(BIN)/qanat demo --households $(HOUSEHOLDS) --seconds $(SECONDS) $(if $(REAL),--real "$(REAL)")

test: $(DEV) ## every test (TESTS="tests/log -k commit" for some, WORKERS=0 for one process)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS)

lint: $(DEV) ## ruff, mypy --strict and the order of the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(DEV) ## qanat beside Flink, Pathway and Bytewax on the same file; prints a table and writes it as JSON
	@$(BIN)/python -m bench all

services: $(DEV) ## what the service-backed tests need: mosquitto and its clients, PostgreSQL, Redis, Memcached, Chromium, a JDK with Maven, the jars of Flink and Cassandra
	@missing=; \
	command -v mosquitto_pub >/dev/null || missing="$$missing mosquitto-clients"; \
	test -x /usr/sbin/mosquitto || command -v mosquitto >/dev/null || missing="$$missing mosquitto"; \
	test -n "$$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" || missing="$$missing postgresql"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v memcached >/dev/null || missing="$$missing memcached"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v java >/dev/null || missing="$$missing default-jdk-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	if test -z "$$missing"; then exit 0; \
	elif command -v apt-get >/dev/null; then \
	  run=; test "$$(id -u)" = 0 || run="sudo -n"; \
	  $$run apt-get update -qq && \
	  $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "make services: no apt-get here; install$$missing, or the tests that need them are skipped" >&2; fi
	@if command -v java >/dev/null && command -v mvn >/dev/null; then $(BIN)/python -m bench.install flink cassandra; fi

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .qanat
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no python3.11 found; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip

$(RUNTIME): pyproject.toml | $(VENV)/bin/python
	@echo "making $(VENV) ..." >&2
	@$(PIP) install --editable .
	@touch $@

$(DEV): pyproject.toml $(RUNTIME)
	@$(PIP) install --group dev
	@touch $@
