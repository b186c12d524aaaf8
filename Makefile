# On a bare machine with Python 3.11+, every target first makes .venv with the pinned set; later calls start at once.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

# The Pythons that may make .venv, the first that will do; `make test PYTHON=...` names another.
PYTHON ?= python3.11 python3

# Two workers of one thread each: more threads than cores make torch slower, not faster.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

ifeq ($(origin PENCHANT_DATA),undefined)
ifneq ($(wildcard ../shared/data/.),)
export PENCHANT_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help demo test test-all lint types bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## the whole way on MovieLens-100K, from the raw log to a report
	@rm -rf demo && $(BIN)/penchant demo

test: lint types  ## lint, types and the fast tests
	@$(PYTEST) -m "not slow and not registry"

# CI=true: a test whose data or registry is missing fails instead of being skipped. Exit 5: no test has such a mark.
test-all: $(READY)  ## the tests marked slow, data or registry; none may be skipped for want of data
	@CI=true $(PYTEST) -m "slow or data or registry" || [ $$? -eq 5 ]

lint: $(READY)  ## ruff
	@$(BIN)/ruff check --quiet

types: $(READY)  ## mypy, strict, over src
	@$(BIN)/mypy --no-error-summary

bench: $(READY)  ## speed against bench/baseline.json
	@$(BIN)/penchant bench check

clean:  ## remove .venv, caches and builds
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes in alone and first: asked for by another package, it may come as its newest build with gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	@found=; \
	for python in $(PYTHON); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "None of these is Python 3.11 or newer: $(PYTHON). Install one (Debian: apt-get install python3.11-venv)," \
			"or name yours: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3" >&2; exit 2; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found cannot make a virtual environment: it has no ensurepip. Install it (Debian: apt-get install python3.11-venv)," \
			"or name another Python: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3" >&2; exit 2; \
	fi; \
	echo "Making .venv with $$("$$found" --version); this takes some minutes, once." >&2; \
	$(BIN)/python -c 'import pip' 2>/dev/null || "$$found" -m venv --clear .venv
	@$(PIP) install --constraint constraints.txt torch
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@
