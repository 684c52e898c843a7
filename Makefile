# `make demo` and `make test` need Python >= 3.11 and make, and set up the rest themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := benchmarks/.venv-peers
# Tests run side by side, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q

.PHONY: demo test test-slow lint format wheel pictures bench bench-peers clean

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

# About twenty minutes on two cores. BENCH="--quick --threads 1" shows that all works, in two minutes.
bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.speed $(BENCH)

# pythae, Pyro and NumPyro, in an environment of their own.
bench-peers: $(PEERS)/.ready

clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jensen needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(PEERS)/.ready: benchmarks/peers-constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c $< pythae pyro-ppl numpyro
	touch $@
