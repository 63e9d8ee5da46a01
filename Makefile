# The things one does here. Each step remembers that it is done, so doing it again takes no time.
#
#   make demo     the whole story on sample data, in demo/      make docs    the commands' pages, from their help
#   make demo-train   a toy model learns from a lake, in demo-train/; this one installs torch
#   make test     every test, with coverage                     make bench   the benchmarks (ROWS=1000000)
#   make lint     every linter and the type checker             make wheel   builds it, and tries it elsewhere
#   make faults   every known way to break a lake, at length    make soak    all of them at once (SECONDS=3600)
#   make clean    removes what these made
#
# PYTHON=python3.12   which Python makes .venv (3.11 or newer)
# TRAIN=0             leaves torch and the training libraries out of `make test`
# JOBS=2              how many tests run at a time
# SEED=1              from which the faults are drawn

PYTHON ?= python3
TRAIN ?= 1
JOBS ?= 2
ROWS ?= 1000000
SEED ?= 1
SECONDS ?= 3600

BIN := .venv/bin
# Errors are shown, everything else is not: a newcomer reads every line.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq install -c constraints.txt
TEST_TOOLS := .venv/test-tools$(if $(filter 0,$(TRAIN)),,-and-training)

.PHONY: demo demo-train test lint faults soak docs bench wheel clean

demo: .venv/lake
	@rm -rf demo
	@$(BIN)/lake demo demo

demo-train: .venv/train
	@rm -rf demo-train
	@$(BIN)/lake demo demo-train --train

# One thread a worker: more would wait for each other. Tests of one file stay together, for what they share is made once.
test: $(TEST_TOOLS)
	@echo "Running the tests, $(JOBS) at a time"
	@OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --durations=40 --cov --cov-report=term

lint: $(TEST_TOOLS)
	@echo "ruff: style and mistakes"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "mypy: types"
	@$(BIN)/mypy
	@echo "import-linter: floors import only downwards"
	@$(BIN)/lint-imports --no-logo
	@echo "sqlfluff: SQL"
	@$(BIN)/sqlfluff lint --disable-progress-bar views ingest

# One at a time: how long an append takes among eight writers is one of the figures.
faults: $(TEST_TOOLS)
	@echo "Trying to break a lake in every way that is known, from seed $(SEED); this takes an hour or so"
	@PATH="$(CURDIR)/$(BIN):$$PATH" FAULTS_SEED=$(SEED) $(BIN)/python -m pytest tests/faults -q -m ""

soak: .venv/lake
	@$(BIN)/python -m tests.faults.soak --seconds $(SECONDS) --seed $(SEED)

docs: .venv/lake
	@$(BIN)/python -m cli.reference

bench: $(TEST_TOOLS)
	@$(BIN)/python benchmarks/ingest_new.py --rows $(ROWS)
	@$(BIN)/python benchmarks/ingest_again.py --rows $(ROWS)
	@$(BIN)/python benchmarks/ingest_large.py --rows $(ROWS)
	@$(BIN)/python benchmarks/export.py --rows $(ROWS)
	@$(BIN)/python benchmarks/memory.py --rows $(ROWS)
	@$(BIN)/python benchmarks/compact.py
	@$(BIN)/python benchmarks/commits.py
	@$(BIN)/python benchmarks/files.py
	@$(BIN)/python -m benchmarks.loader
	@$(BIN)/python -m benchmarks.first_batch
	@$(BIN)/python -m benchmarks.resume
	@$(BIN)/python -m benchmarks.gpu

wheel: .venv/lake
	@echo "Building the wheel and the source archive into dist/"
	@$(PIP) build
	@rm -rf dist build && mkdir build
	@$(BIN)/python -m build --outdir dist . > build/log 2>&1 || { cat build/log >&2; exit 1; }
	@echo "Installing the wheel into an environment of its own, and running its demo from another folder"
	@$(PYTHON) -m venv build/elsewhere/venv
	@build/elsewhere/venv/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt dist/*.whl
	@cd build/elsewhere && venv/bin/lake demo > demo.txt && echo "It works: $$(ls $(CURDIR)/dist/*.whl)"

clean:
	@rm -rf .venv build dist demo demo-train lakehouse benchmarks/data .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/lake: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "The lake needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; \
		echo "hint: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing the lake and what it needs into .venv (about 300 MB, a minute or less)"
	@$(PIP) -e .
	@touch $@

.venv/test-tools: .venv/lake
	@echo "Installing what the tests and linters need"
	@$(PIP) -e '.[test]'
	@touch $@

# torch comes first and alone: a requirement that is looser than the pin would bring another build and gigabytes of CUDA.
.venv/train: .venv/lake
	@echo "Installing torch (TRAIN=0 leaves it out of the tests)"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@echo "Installing the training libraries"
	@$(PIP) -e '.[train]'
	@touch $@

.venv/test-tools-and-training: .venv/test-tools .venv/train
	@touch $@
