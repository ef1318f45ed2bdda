# `make` alone lists what can be made. The text after ## is that list.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit integration bench install clean

PY := .venv/bin/python
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
PYTEST_ARGS ?=
BENCH_ARGS ?=

help: ## list the commands (this)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.all ## install the tools with apt-get (says which) and a .venv; quick the second time

# The stamps: newer than what they were made from means nothing to do.
.venv/.run .venv/.all: setup.cfg pyproject.toml .ci/setup
	@.ci/setup $(subst .,,$(notdir $@))

demo: .venv/.run ## build a busybox and a web server image, run it, fetch its page
	@$(PY) fixtures/demo.py

test: lint unit integration ## set up, then every check and every test

lint: setup ## ruff, mypy and the import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo --no-cache

unit: setup ## the tests that need nothing but python
	$(PY) -m pytest tests/unit -q -n auto $(PYTEST_ARGS)

integration: setup ## the tests that build images with the real tools
	@.ci/tun
	$(PY) -m pytest tests --ignore tests/unit -q -n auto $(PYTEST_ARGS)

bench: setup ## compare with buildah: BENCH_ARGS="--runs 5 --only run-cold --json"
	@.ci/tun
	@$(PY) tests/bench $(BENCH_ARGS)

install: .venv/.run ## put orca in PREFIX (/usr/local for root, ~/.local otherwise)
	@rm -rf build  # a file that is gone from orca/ would be installed from there
	$(PY) -m venv --clear $(PREFIX)/lib/orca
	$(PREFIX)/lib/orca/bin/python -m pip install --quiet --disable-pip-version-check .
	install -d $(PREFIX)/bin
	ln -sf $(PREFIX)/lib/orca/bin/orca $(PREFIX)/bin/orca

clean: ## remove .venv, .demo and what the tools left in the checkout
	@python3 fixtures/demo.py --clean
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find orca tests -name __pycache__ -prune -exec rm -rf {} +
