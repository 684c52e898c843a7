# `make demo` and `make test` need Python >= 3.11 and make, and set up the rest themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run side by side, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q

.PHONY: demo test test-slow lint format wheel pictures clean

demo: $(VENV)/.ready
	$(BIN)/jensen fit digits

test: $(VENV)/.ready
	$(PYTEST) -m "not slow" --doctest-modules tests src

test-slow: $(VENV)/.ready
	$(PYTEST) -m slow tests

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(VENV)/.ready
	$(BIN)/python -m build --wheel --outdir dist

pictures: $(VENV)/.ready
	$(BIN)/python -m benchmarks.pictures

clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jensen needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
