# Every target sets up what it needs, from nothing: `make demo` in a fresh clone is enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench schemas clean

demo: .venv/run
	$(BIN)/edge-inspector demo

test: .venv/dev
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

bench: .venv/run
	$(BIN)/edge-inspector bench

# The JSON Schemas of the messages, from their definitions in edge_inspector/wire.py
schemas: .venv/run
	$(BIN)/python -c "from pathlib import Path; from edge_inspector.wire import schemas; \
	[Path('edge_inspector/schemas', name).write_bytes(text) for name, text in schemas().items()]"

clean:
	rm -rf .venv demo

.venv/run: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
