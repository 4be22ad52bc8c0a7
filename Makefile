# mattebridge: `make demo` and `make test` do all the set-up themselves.
#
#   make demo    render a sample shot, matte it through the daemon, look at it in demo/
#   make test    every test, the slow ones too
#   make check   lint, format, types
#   make bench   what README claims about speed, measured here
#   make test-windows  tests of the Windows half under Wine, which has to be installed
#   make plugin  the OpenFX plugin; `make plugin PLUGIN_DIR=folder` installs it there
#   make dist    what users install, in dist/: an sdist, and wheels that carry the plugin; tried
#
# TORCH is what pip installs as torch: by default the pinned release, which on Linux comes with
# CUDA (several GB). See README, "A smaller torch".

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that the tests are spread over, a file each at a time.
WORKERS ?= 4
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# The plugin is built with compilers out of wheels, for every Linux since glibc 2.17.
PLUGIN_DIR ?=
PLUGIN_TARGET ?= x86_64-linux-gnu.2.17
PLUGIN_BUILD := build/plugin/$(PLUGIN_TARGET)
PLUGIN_TOOLS := build/plugin/tools
# The systems that a wheel is made for; builds of the plugin for others are left out.
DIST_TARGETS ?= x86_64-linux-gnu.2.17 aarch64-linux-gnu.2.17 x86_64-windows-gnu \
    aarch64-macos.11.0 x86_64-macos.11.0
DIST_TOOLS := build/dist/tools

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-windows windows arm check host-packages bench plugin dist clean

help:
	@sed -n '3,9p' $(MAKEFILE_LIST) | sed 's/^# *//'

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
	$(PYTEST) -m "slow or not slow" $(ARGS)

test-fast: $(VENV)/.test
	$(PYTEST) $(ARGS)

# A Windows Python with its packages, in a disk of Wine's under build/wine.
windows: $(VENV)/bin/python
	@$(BIN)/python tests/windows/make_prefix.py build/wine

# A Python for Linux on ARM, to run the plugin for it in under qemu: tests/e2e/test_under_qemu.py.
arm: $(VENV)/bin/python
	@$(BIN)/python tests/arm/make_root.py build/arm

test-windows: $(VENV)/.test windows
	$(BIN)/pytest -m slow tests/e2e/test_under_wine.py $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy nuke/*.py
	$(BIN)/mypy resolve/*.py

# What the tests under other Pythons take from HOST_PYTHON_PACKAGES.
host-packages: $(VENV)/.test
	@$(BIN)/python tests/fakes/interpreters.py build/host-packages

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

$(PLUGIN_TOOLS)/.ready:
	$(PYTHON) -m venv $(PLUGIN_TOOLS)
	$(PLUGIN_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check \
	    'cmake>=3.22' ninja 'ziglang>=0.13'
	@touch $@

plugin: $(PLUGIN_TOOLS)/.ready
	@$(PYTHON) plugin_shim/build.py --tools $(PLUGIN_TOOLS) --target $(PLUGIN_TARGET) \
	    --build $(PLUGIN_BUILD) $(if $(PLUGIN_DIR),--install '$(PLUGIN_DIR)')

$(DIST_TOOLS)/.ready:
	$(PYTHON) -m venv $(DIST_TOOLS)
	$(DIST_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check build twine
	@touch $@

# Builds and checks everything, then installs and uses each wheel that can run on this machine.
dist: BEGAN := $(shell date +%s)
dist: $(VENV)/.daemon $(DIST_TOOLS)/.ready
	@for target in $(DIST_TARGETS); do $(MAKE) --no-print-directory plugin PLUGIN_TARGET=$$target \
	    || exit 1; done
	@if command -v wine >/dev/null; then $(MAKE) --no-print-directory windows; fi
	$(DIST_TOOLS)/bin/python release/wheels.py --out dist --targets $(DIST_TARGETS)
	$(BIN)/python release/trials.py --out dist
	@echo "make dist took $$(( $$(date +%s) - $(BEGAN) )) s"

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
