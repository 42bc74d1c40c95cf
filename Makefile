# The few verbs of the project; `make help` lists them. The first one that needs it builds .venv from requirements.lock.

STUDY ?= $(or $(PROFILE),smoke)
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
TORCH_ARGS ?=
BENCH ?=
SNAKEMAKE ?=
JOBS ?= auto

BIN := .venv/bin
READY := .venv/ready
OWN := _runs/mine.ipynb

.DEFAULT_GOAL := help
.PHONY: help study test quick lab book bench chaos clean

help: ## say what can be made
	@echo "make ... (STUDY=$(STUDY), PYTHON=$(PYTHON))"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

study: $(READY) ## train and probe the cells of STUDY that have yet to run, then build the book
	@$(BIN)/snakemake --config study=$(STUDY) $(addprefix profile=,$(PROFILE)) $(SNAKEMAKE)

test: $(READY) ## check style and import rules, then run every test, every notebook and the book's build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile

quick: $(READY) ## check style and import rules, then run the fast tests, in a few minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile -m "not slow" tests

lab: $(READY) $(OWN) ## open JupyterLab on a copy of the experiment's notebook that is yours to change
	$(BIN)/jupyter lab $(OWN)

book: $(READY) ## build the book from the results at hand; warnings are errors
	@$(BIN)/python -m isonb book

bench: $(READY) ## time a training step against a plain one, other libraries and more processes; BENCH=steps for a part
	$(BIN)/python tests/benchmarks $(BENCH)

chaos: $(READY) ## kill a sweep's processes at random moments and see that its table stays the same; takes minutes
	$(BIN)/python tests/chaos.py

clean: ## remove the built book and the tools' caches; the environment, results and checkpoints stay
	rm -rf _build .snakemake .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find isonb tests notebooks book -name __pycache__ -o -name .ipynb_checkpoints -o -name .jupyter_cache | xargs rm -rf

$(OWN):
	@mkdir -p $(@D) && cp notebooks/cell.ipynb $@

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: install one and name it, as in make PYTHON=python3.11." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing the study's environment into .venv; the first time takes minutes."
	@test -z "$(TORCH_ARGS)" || $(BIN)/python -m pip install $(TORCH_ARGS) "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
