# Every target sets up what it needs, from nothing: `make demo` in a fresh clone is enough.
PYTHON ?= python3
BIN := .venv/bin
PIP = @echo "installing into .venv ..." && $(BIN)/python -m pip install --quiet
SAY = 2> .venv/pip.log || (cat .venv/pip.log && false)  # what pip says is of interest only where it fails

.PHONY: demo test check bench schemas map clean

demo: .venv/run
	$(BIN)/edge-inspector demo

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(TESTS)

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

# The page of the Modbus registers, from their definition in edge_inspector/gateway/registers.py
map: .venv/run
	$(BIN)/python -c "from edge_inspector.gateway.map_page import page; open('docs/modbus-map.md', 'w').write(page())"

clean:
	rm -rf .venv demo

.venv/run: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --upgrade pip $(SAY)
	$(PIP) --editable '.[gateway]' $(SAY)
	@touch $@

.venv/dev: .venv/run
	$(PIP) --editable '.[dev]' $(SAY)
	@touch $@
