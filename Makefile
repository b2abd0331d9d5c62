# Two commands do all set-up: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := # empty: workers and processes share compiled modules

.PHONY: demo test test-all check format docs bench clean

demo: .venv/.sln
	$(BIN)/amodal-data demo demo --force
	$(BIN)/sln demo demo/sln --force

PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

test: .venv/.dev
	$(PYTEST) -m "not research and not slow"

test-all: test
	$(PYTEST) -m "research or slow"

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell README.md CONTRIBUTING.md CHANGELOG.md docs amodal_data sln cli examples

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: build/docs-venv/.made
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict

bench: .venv/.package
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/flat.py

clean:
	rm -rf .venv build demo dist

# uv if it is there, else plain venv and pip
.venv/.made:
	@if command -v uv >/dev/null; then uv venv --allow-existing --python $(PYTHON) .venv; \
	else $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"; fi
	@touch $@

.venv/.package: .venv/.made pyproject.toml
	@if command -v uv >/dev/null; then uv pip install --python $(BIN)/python -e .; \
	else $(BIN)/python -m pip install --quiet -e .; fi
	@touch $@

.venv/.sln: .venv/.made pyproject.toml
	@if command -v uv >/dev/null; then uv pip install --python $(BIN)/python -e ".[sln]"; \
	else $(BIN)/python -m pip install --quiet -e ".[sln]"; fi
	@touch $@ .venv/.package

.venv/.dev: .venv/.made pyproject.toml
	@if command -v uv >/dev/null; then uv pip install --python $(BIN)/python --group dev -e .; \
	else $(BIN)/python -m pip install --quiet --group dev -e .; fi
	@touch $@ .venv/.package .venv/.sln

# the site has an environment of its own, without torch
build/docs-venv/.made: pyproject.toml
	@if command -v uv >/dev/null; then uv venv --allow-existing --python $(PYTHON) build/docs-venv && \
	uv pip install --python build/docs-venv/bin/python --group docs -e .; \
	else $(PYTHON) -m venv build/docs-venv && build/docs-venv/bin/python -m pip install --quiet --upgrade "pip>=25.1" && \
	build/docs-venv/bin/python -m pip install --quiet --group docs -e .; fi
	@touch $@
