# Everything runs in .venv, which the first target that needs it creates. All it takes is make,
# Python >= 3.11 and a package index.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-from-constraints
PYTEST_ARGS ?= -n auto --dist worksteal

# What a Python must be able to do to set up .venv. Debian's needs a package for it: python3-venv.
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# The first that runs and is suitable: a version manager's stand-ins exist without running.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(name))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow lint format bench fuzz docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with the versions of constraints.txt

demo: $(STAMP)  ## train under several tying policies and compare them (about 3 minutes)
	$(PY) -m baselines.demo

test: $(STAMP)  ## run the tests; PYTEST_ARGS="-k ties" takes other options
	$(PY) -m pytest $(PYTEST_ARGS)

slow: $(STAMP)  ## run the tests that take long, which test leaves out
	$(PY) -m pytest $(PYTEST_ARGS) -m "slow and not exhaustive"

lint: $(STAMP)  ## check style, types and spelling
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/codespell

format: $(STAMP)  ## mend style where ruff can
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: $(STAMP)  ## measure speed and memory
	$(PY) -m benchmarks

docs: $(STAMP)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

fuzz: $(STAMP)  ## run the exhaustive tests, draw thousands of configurations, kill 50 runs
	$(PY) -m pytest $(PYTEST_ARGS) -m exhaustive
	TIEGYM_FUZZ=1 $(PY) -m pytest tests/tiegym/test_fuzz.py
	$(PY) -m benchmarks.kills --kills 50

clean:  ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv whose pip doesn't answer is the rest of an interrupted set-up, or belongs to a Python
# that has gone: it is made anew. setuptools comes first so that the project is built with the
# constrained one, instead of with whatever is newest that day.
$(STAMP): pyproject.toml constraints.txt
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		python="$(PYTHON)"; \
		if ! "$${python:-false}" -c '$(SUITABLE)'; then \
			echo "tiegym needs Python 3.11 or newer with its venv module, and found none" \
				"(PYTHON=$$python). Install one (on Debian and Ubuntu: python3 and" \
				"python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		echo "Setting up $(VENV) with $$python: once, a few minutes, mostly PyTorch's download"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt setuptools
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable ".[dev]"
	@touch $@
