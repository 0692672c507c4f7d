# gatebook: `make` lists what can be made. Everything happens in .venv; nothing is installed outside it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help serve test check lint bench crash stuffing enumeration schema lock clean

VENV := .venv
BIN := $(VENV)/bin
# A Python of your choice: make PYTHON=/path/to/python3.12 test (the environment is made once; `make clean` first).
PYTHON ?=
# Handed on to the command: make serve ARGS="--http 127.0.0.1:9000", make test ARGS="tests/test_packaging.py -q".
ARGS ?=

# Twice quiet: errors are shown, advice is not.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
INSTALL_LOCKED := $(PIP) install --require-hashes --requirement
# hatchling came with the lock file, so that building needs nothing from elsewhere.
INSTALL_PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.runtime ## Start the service (options: ARGS="--http 127.0.0.1:9000")
	@exec $(BIN)/gatebook serve $(ARGS)

test: $(VENV)/.test ## Run the whole test suite (options: ARGS="-k name")
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint test ## Everything a change must pass: formatting, linters, types, imports, tests

lint: $(VENV)/.check ## Formatting, linters, types and imports, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test ## Measure, and print ratios (options: ARGS="…")
	$(BIN)/python -m benchmarks $(ARGS)

crash: $(VENV)/.test ## Kill a busy service again and again, and look for what was lost (options: ARGS="--rounds 100 --seconds 5")
	$(BIN)/python -m tests.durability.crashes $(ARGS)

stuffing: $(VENV)/.test ## Guess passwords by the thousand, and look how many were evaluated (options: ARGS="--processes 2")
	$(BIN)/python -m tests.attacks.stuffing $(ARGS)

enumeration: $(VENV)/.test ## Look whether a login tells that an account is there, to the byte and by its time (options: ARGS="--door account")
	$(BIN)/python -m tests.attacks.enumeration $(ARGS)

schema: $(VENV)/.test ## Hold the service against its OpenAPI document (options: ARGS="--examples 200 --seed 1")
	$(BIN)/python -m tests.schema $(ARGS)

# The widest set is solved first and the others are held to it, so that a package has one version in all three.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --group build
lock: $(VENV)/.check ## Solve the dependencies anew, at their newest versions, into requirements/
	$(COMPILE) --upgrade --extra test --extra dev pyproject.toml --output-file requirements/check.txt
	$(COMPILE) --upgrade --constraint requirements/check.txt --extra test pyproject.toml --output-file requirements/test.txt
	$(COMPILE) --upgrade --constraint requirements/check.txt pyproject.toml --output-file requirements/runtime.txt

clean: ## Remove the environment and everything that was generated
	rm -rf $(VENV) build dist .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An empty file marks each finished installation; it is made again when what it was made from has changed.
# The sets contain one another, so a wider one stands for the narrower ones as well.
$(VENV)/.runtime: STANDS_FOR := .runtime
$(VENV)/.test: STANDS_FOR := .runtime .test
$(VENV)/.check: STANDS_FOR := .runtime .test .check
$(VENV)/.runtime $(VENV)/.test $(VENV)/.check: $(VENV)/.%: requirements/%.txt pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing requirements/$*.txt and gatebook into $(VENV)"
	@$(INSTALL_LOCKED) requirements/$*.txt
	@$(INSTALL_PROJECT)
	@cd $(VENV) && touch $(STANDS_FOR)

$(VENV)/pyvenv.cfg:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "gatebook needs Python 3.11 or newer with its venv module, and found none:" \
		"install it (on Debian: python3 and python3-venv), or name one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1
