# make demo: from nothing to a trained, tested and drawn cell. make test: the suite. make docs: the pages, in site/.
# make check: what a commit must pass. make gpu: nine minutes on a new GPU; PART=train: one part of them.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
DARTS := $(BIN)/python -m darts_hpc
WORKERS ?= 3# tests wait for schedulers and other processes half of the time, so more than two cores' worth of them
TEST_LIMIT ?= 40m# a suite that hangs is ended
S := runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: setup demo test gpu check check-static docs docs-pictures clean

setup: .venv/.installed

.venv/.installed: pyproject.toml setup.py constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'error: Python 3.11 or newer is needed; name one: make setup PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@echo 'installing the versions of constraints.txt; torch with CUDA takes several GB'
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

demo: setup
	$(DARTS).train_search --config configs/search/robust.yaml --config configs/search/digits.yaml --save $(S)/search
	$(DARTS).train --config configs/train/digits.yaml --arch $(S)/search --save $(S)/train
	$(DARTS).evaluate --model_path $(S)/train
	$(DARTS).visualize $(S)/search --output $(S)/cells
	$(DARTS).report $(S)/search $(S)/train --output $(S)/report

test: setup
	@timeout --foreground --kill-after=30 $(TEST_LIMIT) $(BIN)/python -m pytest -n $(WORKERS) || { code=$$?; \
		[ $$code != 124 ] || echo 'error: the tests did not end within $(TEST_LIMIT); see the last one named by: pytest -v' >&2; exit $$code; }

gpu: setup
	@$(BIN)/python benchmarks/gpu/suite.py $(if $(PART),--part $(PART))

check-static: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

check: check-static docs test

docs: setup
	$(BIN)/python docs/scripts/tables.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo 'docs: open site/index.html, or with a search box: python -m http.server -d site'

# RUNS are run folders, as of make demo, to show the report and TensorBoard of
docs-pictures: setup
	$(BIN)/python docs/scripts/pictures.py $(RUNS)

clean:
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
	find darts_hpc tests -name __pycache__ -type d -prune -exec rm -rf {} +
