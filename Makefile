# make demo      the main job, end to end, on the embedded corpus
# make test      the test suite
# make test-slow the tests that take minutes
# make lint      ruff, mypy, import contracts
# make format    ruff's fixes and formatting
# make bench     speed of `flashquad prepare`, of the collator, and of a training step
# make quality   the training runs of docs/quality.md: days on a CPU (TRAIN=... VALIDATION=... folders of `flashquad prepare --format text`, TEST=... another one if you like, RESULTS=... file of the records)
# make pages     docs/capabilities.md, docs/costs.md and docs/speed.md: by trying, counting, and from results (10 minutes)
# make clean     delete .venv and build
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN := build/demo
WORKERS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format bench quality pages clean

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "flashquad needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/pip || { echo "create $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "install the pinned dependencies (a few minutes the first time)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "install the tools for tests and linting"
	@$(PIP_INSTALL) --editable ".[test,lint]"
	@touch $@

demo: $(VENV)/.installed
	@BIN=$(BIN) RUN=$(RUN) sh examples/demo.sh

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench_prepare.py
	$(BIN)/python benchmarks/bench_collator.py
	$(BIN)/flashquad bench --output build/bench --lengths 512 --batch-tokens 1024 --modes training \
		--contestants flash-quad,flash-quad@bf16,flash-quad+full-logits@bf16 --baseline flash-quad+full-logits

quality: $(VENV)/.installed-dev
	@test -n "$(TRAIN)" -a -n "$(VALIDATION)" -a -n "$(RESULTS)" || { echo 'make quality TRAIN=... VALIDATION=... RESULTS=...: folders of `flashquad prepare --format text`, and a file for the records' >&2; exit 2; }
	$(BIN)/python benchmarks/quality/study.py all --train $(TRAIN) --validation $(VALIDATION) \
		$(if $(TEST),--test $(TEST)) --results $(RESULTS) --keep-models build/quality --workers $(WORKERS)
	$(if $(TEST),$(BIN)/python benchmarks/quality/by_document.py comparison-3M --models build/quality --results $(RESULTS) \
		--output build/quality/documents.jsonl --validation $(VALIDATION) --test $(TEST))
	$(BIN)/python benchmarks/quality/page.py --results $(RESULTS) $(if $(TEST),--documents build/quality/documents.jsonl)

pages: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/capability_table.py
	$(BIN)/python benchmarks/model_costs.py
	$(BIN)/python benchmarks/speed_page.py

clean:
	rm -rf build $(VENV)
