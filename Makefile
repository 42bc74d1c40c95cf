# The few verbs of the project; `make help` lists them. The first one that needs it builds .venv from requirements.lock.

STUDY ?= $(or $(PROFILE),smoke)
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
TORCH_ARGS ?=
BENCH ?=
LOCK ?=
SNAKEMAKE ?=
MINUTES ?=
JOBS ?= auto
LAB ?=

BIN := .venv/bin
READY := .venv/ready
OWN := _runs/mine.ipynb
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)# as in a container: Jupyter asks for it
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
HASHED := --require-hashes --no-deps --no-build-isolation
TORCH := $(shell grep -o '^torch==[0-9.]*' requirements.lock)
BUILD := .venv/torch
HOLD := 'import fcntl, subprocess, sys; held = open(sys.argv[1]); fcntl.flock(held, fcntl.LOCK_EX); \
  sys.exit(subprocess.call(sys.argv[2:]))'
ENTRY = sed -n '/^$(1)==/,/[^\]$$/p' requirements.lock

.DEFAULT_GOAL := help
.PHONY: help study test quick lab book pdf links nbval bench gpu chaos lock locked clean

help: ## say what can be made
	@echo "make ... (STUDY=$(STUDY), PYTHON=$(PYTHON))"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

study: $(READY) ## train and probe the cells of STUDY that have yet to run, then build the book; MINUTES=12 for a part
	@$(BIN)/python -m isonb sweep "study=$(STUDY)" $(addprefix profile=,$(PROFILE)) $(addprefix minutes=,$(MINUTES)) $(SNAKEMAKE)

test: $(READY) ## check style and import rules, then run every test, every notebook and the book's build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

quick: $(READY) ## check style and import rules, then run the fast tests, in a few minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "not slow" tests

lab: $(READY) $(OWN) ## open JupyterLab on a copy of the experiment's notebook; LAB="--no-browser --ip=0.0.0.0" for its options
	@$(BIN)/python -c 'import isonb, os, sys; os.execv(sys.argv[1], sys.argv[1:])' $(BIN)/jupyter lab $(AS_ROOT) $(LAB) $(OWN)

book: $(READY) ## build the book from the results at hand; warnings are errors
	@$(BIN)/python -m isonb book

pdf: $(READY) ## print the whole book into _build/html/isonb.pdf, by Chromium; builds the book first where it has to
	@$(BIN)/python -m isonb pdf

links: $(READY) ## check that every link of the book's text leads somewhere, on other sites too
	@$(BIN)/python -m isonb links

nbval: $(READY) ## run every notebook twice and see that the second run shows what the first did
	$(BIN)/pytest -q --numprocesses $(JOBS) --maxprocesses 8 tests/test_notebooks.py notebooks

bench: $(READY) ## time a training step against a plain one, other libraries and more processes; BENCH=steps for a part
	$(BIN)/python tests/benchmarks $(BENCH)

gpu: $(READY) ## check and time training on the GPU at hand, in under four minutes; says so where there is none
	@$(BIN)/python tests/benchmarks gpu

chaos: $(READY) ## kill a sweep's processes at random moments and see that its table stays the same; takes minutes
	$(BIN)/python tests/chaos.py

lock: ## write requirements.lock anew after a change in pyproject.toml; LOCK=--upgrade renews every version
	$(PYTHON) .ci/lock.py $(LOCK)

locked: $(READY) ## check that the lock is what pyproject.toml needs and that the environment is what the lock says
	$(BIN)/pytest -q tests/test_lock.py
	$(BIN)/python -m pip check

clean: ## remove the built book and the tools' caches; the environment, results and checkpoints stay
	rm -rf _build .snakemake .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find isonb tests notebooks book -name __pycache__ -o -name .ipynb_checkpoints -o -name .jupyter_cache | xargs rm -rf

$(OWN):
	@mkdir -p $(@D) && cp notebooks/cell.ipynb $@

# pip chooses torch's build, as TORCH_ARGS or its own settings say; whatever that is has to have a hash in the lock.
$(READY): requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: install one and name it, as in make PYTHON=python3.11." >&2; exit 1; }
ifndef ALONE # another make may be at it: wait for its end, then see what is left to do
	@$(PYTHON) -c $(HOLD) requirements.lock $(MAKE) --no-print-directory ALONE=1 $@
else
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing the study's environment into .venv; the first time takes minutes."
	@$(call ENTRY,setuptools) | $(PIP) install $(HASHED) --requirement /dev/stdin
	@$(PIP) list --format=freeze | grep -Eq "^$(TORCH)(\+|$$)" || { rm -rf $(BUILD) && \
	  $(PIP) download --no-deps --dest $(BUILD) $(TORCH_ARGS) "$(TORCH)" && $(call ENTRY,torch) | \
	  $(PIP) install $(HASHED) --no-index --find-links $(BUILD) --requirement /dev/stdin && rm -r $(BUILD); }
	@$(PIP) install $(HASHED) --requirement requirements.lock
	@! $(BIN)/python -m pip check | grep '^torch ' >/dev/null || $(PIP) install $(HASHED) --requirement requirements-cuda.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import torch'
	@touch $@
endif
