# Everything here installs what it needs into .venv. Python 3.10+, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := .demo/env/bin/python
BENCHES := check diagnose data model cluster calibration generalise carried journal train_overhead

.PHONY: help install demo docs causes test lint unit unit-doctor unit-fixes stack installs clean
.PHONY: reproduce faults rehearsals disturb cluster fuzz kill memory bench $(BENCHES:%=bench-%)

help:
	@echo "make demo       the main job on the embedded toy model, with installation (about 6 minutes)"
	@echo "make test       lint, unit tests and the story on real packages (about 20 minutes)"
	@echo "make unit       lint and unit tests only (about 7 minutes)"
	@echo "make lint       format, style, types, and whether docs/causes is current"
	@echo "make docs       write docs/causes from the knowledge base"
	@echo "make causes     is every cause complete, is every recorded log answered rightly? (half a minute)"
	@echo
	@echo "Longer, on real packages, CPU only:"
	@echo "make stack      every test with real packages (hours)"
	@echo "make reproduce  of these, each cause made to happen, healed and trained (an hour)"
	@echo "make faults     faults put into healthy workspaces: found, trained, healed (hours, in parts); docs/faults.md"
	@echo "make installs   seven releases as the registry resolves them today: checked, trained, healed (30 minutes)"
	@echo "make rehearsals faults that only running shows, rehearsed (hours, in parts); docs/rehearsal.md"
	@echo "make disturb    real runs killed, stopped, starved of disk and network under train (an hour)"
	@echo "make cluster    real Slurm and Ray daemons and two hosts on this machine (root; see docs/clusters.md)"
	@echo "make fuzz       half a million damaged inputs of check, a million damaged logs of diagnose (an hour)"
	@echo "make kill       a fix of files and packages, and its undo, killed at each step and 300 moments (8 minutes)"
	@echo "make memory     estimate judged by 80 runs recorded on an H100 (seconds)"
	@echo "make bench      every benchmark beside its alternative; one of them: make bench-check"
	@echo "                ($(BENCHES))"

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

causes: $(STAMP)
	$(BIN)/python -m pytest -q tests/knowledge_base tests/doctor/diagnose/test_logs.py

# The two halves side by side: most tests wait for processes that they started.
unit: lint
	@$(MAKE) --no-print-directory -j2 -Otarget unit-doctor unit-fixes

unit-doctor: $(STAMP)
	$(BIN)/python -m pytest -q tests/doctor tests/knowledge_base

unit-fixes: $(STAMP)
	$(BIN)/python -m pytest -q tests/fixes tests/fuzz tests/faults

test: unit
	$(BIN)/python -m pytest -q -m "not stack or story" tests/stack

stack: $(STAMP)
	$(BIN)/python -m pytest -q -m stack tests/stack tests/fixes

reproduce: $(STAMP)
	$(BIN)/python -m pytest -q -m stack tests/stack/reproductions

faults: $(STAMP)
	for step in check train heal again tools; do $(BIN)/python -m tests.faults $$step || exit 1; done
	$(BIN)/python -m tests.faults.table
	$(BIN)/python -m pytest -q tests/faults

installs: $(STAMP)
	$(BIN)/python -m tests.stack.installs --folder .demo

rehearsals: $(STAMP)
	$(BIN)/python -m tests.stack.rehearse --missing --folder .demo/rehearsals
	$(BIN)/python -m tests.stack.rehearse.table

disturb: $(STAMP)
	$(BIN)/python -m tests.stack.train.campaign .demo/disturb

cluster: $(STAMP)
	$(BIN)/python -m pytest -q -m cluster tests/cluster

fuzz: $(STAMP)
	mkdir -p .demo
	$(BIN)/python -m tests.fuzz.run --record .demo/fuzz.json
	$(BIN)/python benchmarks/fuzz_reader.py

kill: $(STAMP)
	$(BIN)/python benchmarks/kill.py

memory: $(STAMP)
	$(BIN)/python benchmarks/memory/judge.py

# Benchmarks look at the environment and the workspace that the demo leaves.
$(DEMO): | $(STAMP)
	$(BIN)/python demo/run.py

bench: $(BENCHES:%=bench-%)

bench-check bench-data bench-cluster: | $(DEMO)
ARGS_data := --python $(DEMO)
ARGS_train_overhead := .demo/overhead

$(BENCHES:%=bench-%): bench-%: $(STAMP)
	$(BIN)/python benchmarks/$*.py $(ARGS_$*) $(ARGS)

clean:
	rm -rf $(VENV) .demo build dist
