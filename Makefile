# Everything here installs what it needs into .venv. Python 3.10+, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo docs test lint unit stack reproduce bench clean

help:
	@echo "make demo       the main job on the embedded toy model, with installation (about 6 minutes)"
	@echo "make test       lint, unit tests and the story on real packages"
	@echo "make unit       lint and unit tests only (a minute)"
	@echo "make stack      every test with real packages, the whole matrix (hours)"
	@echo "make reproduce  of these, each cause made to happen, healed and trained (an hour)"
	@echo "make bench      the benchmarks, each beside its alternative"

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python demo/run.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m knowledge_base.pages docs/causes --check

docs: $(STAMP)
	$(BIN)/python -m knowledge_base.pages docs/causes

unit: lint
	$(BIN)/python -m pytest -q tests/doctor tests/knowledge_base
	$(BIN)/python -m pytest -q tests/fixes

stack: $(STAMP)
	$(BIN)/python -m pytest -q -m stack tests/stack

test: unit
	$(BIN)/python -m pytest -q -m "not stack or story" tests/stack

reproduce: $(STAMP)
	$(BIN)/python -m pytest -q -m stack tests/stack/reproductions

bench: $(STAMP)
	$(BIN)/python benchmarks/check.py

clean:
	rm -rf $(VENV) .demo build dist
