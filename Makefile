# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test slow isa check bench docs clean

setup: $(READY)

# torch first and exactly: a range takes the newest build, which brings gigabytes of GPU libraries along
$(READY): pyproject.toml packages/sottovoce-builtin/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --editable ".[dev]" --editable packages/sottovoce-builtin
	touch $@

demo: setup
	bash examples/demo.sh

test: setup
	$(BIN)/python -m pytest

slow: setup
	$(BIN)/python -m pytest -m slow

isa: setup
	$(BIN)/python -m pytest -n 0 -m isa

check: setup
	$(BIN)/ruff check --no-cache src tests bench builtin tools
	$(BIN)/ruff format --check src tests bench builtin tools
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.methods

docs: setup
	$(BIN)/python -m sottovoce.recipes.manual > docs/methods.md
	$(BIN)/python -m tools.architecture > docs/architecture.md

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
