# Two commands do all set-up: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format bench clean

demo: .venv/.ready
	$(BIN)/amodal-data demo demo --force

test: .venv/.ready
	$(BIN)/python -m pytest

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.ready
	$(BIN)/python benchmarks/build.py

clean:
	rm -rf .venv demo dist

# uv if it is there, else plain venv and pip
.venv/.ready: pyproject.toml
	@if command -v uv >/dev/null; then \
	  uv venv --allow-existing --python $(PYTHON) .venv && uv pip install --python $(BIN)/python --group dev -e .; \
	else \
	  $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" && \
	  $(BIN)/python -m pip install --quiet --group dev -e .; \
	fi
	@touch $@
