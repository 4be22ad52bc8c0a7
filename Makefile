# mattebridge: `make demo` and `make test` do all the set-up themselves.
#
#   make demo    render a sample shot, matte it through the daemon, look at it in demo/
#   make test    every test, the slow ones too
#   make check   lint, format, types
#   make bench   what README claims about speed, measured here
#
# TORCH is what pip installs as torch: by default the pinned release, which on Linux comes with
# CUDA (several GB). See README, "A smaller torch".

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check bench clean

help:
	@sed -n '3,6p' $(MAKEFILE_LIST) | sed 's/^# *//'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "mattebridge's daemon needs Python 3.10 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.daemon: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[daemon]'
	@touch $@

$(VENV)/.test: $(VENV)/.daemon
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[daemon,test,closed-form]'
	@touch $@

demo: $(VENV)/.daemon
	$(BIN)/mattebridge demo demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis
