# Every target sets up what it needs by itself. `make help` lists them.
PYTHON ?= python3
# How many test files run at once, each on one thread. 0: one after the other, in this process (for a debugger).
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
DOCS := .venv-docs
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: help env lite test test-fast test-matrix lint style types layers demo kill fuzz site clean

help:
	@echo 'make env         the environment in $(VENV) (mmcv builds from source the first time: about 15 minutes on 2 cores)'
	@echo 'make lite        segmentation and classification in .venv-lite, without a compiler: 2 minutes and the downloads'
	@echo 'make test        everything: lint and all tests'
	@echo 'make test-fast   lint and all tests but those marked slow: 2 to 10 minutes on 2 cores'
	@echo 'make test-matrix all tests but the slow ones with old, new and other versions of everything, see docs/versions.md; CORNER=names'
	@echo 'make lint        style (ruff), types (mypy) and layers (import-linter); each is a target of its own, too'
	@echo 'make demo        a small student learns from a trained teacher: a table, a picture and a page; in .venv, or in .venv-lite without it'
	@echo 'make kill        kills trainings, resumes and compares them; SEED=, LIMIT=kills of each case, CASE=names or patterns'
	@echo 'make fuzz        tries mutated configs, artefacts, checkpoints and parts of them; SEED=, NUMBER=of inputs, KIND=one kind'
	@echo 'make site        the documentation as a site in site/, in an environment of its own ($(DOCS)); warnings are errors'
	@echo 'make clean       removes $(VENV), .venv-lite and .venv-matrix, what the demo wrote, and caches'
	@echo 'JOBS=N           test files at once (now $(JOBS))'

env:
	@PYTHON=$(PYTHON) bash tools/setup_env.sh full $(VENV) > /dev/null

lite:
	@PYTHON=$(PYTHON) bash tools/setup_env.sh lite > /dev/null

test: lint
	$(PYTEST)

test-fast: lint
	$(PYTEST) -m 'not slow'

test-matrix:
	$(PYTHON) tools/run_matrix.py $(CORNER) --jobs $(JOBS)

lint: style types layers

style: env
	$(BIN)/ruff check .

types: env
	$(BIN)/mypy

layers: env
	$(BIN)/lint-imports --no-logo

demo:
	@venv=$$(PYTHON=$(PYTHON) bash tools/setup_env.sh demo) && $$venv/bin/python tools/run_demo.py

kill: env
	$(BIN)/python tests/kill/run.py $(if $(SEED),--seed $(SEED)) $(if $(LIMIT),--limit $(LIMIT)) \
		$(if $(CASE),--case $(CASE)) --jobs $(JOBS)

fuzz: env
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --seed $(or $(SEED),1) --number $(or $(NUMBER),2000) \
		$(if $(KIND),--kind $(KIND))

site: $(DOCS)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/ready: requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --disable-pip-version-check --quiet --requirement requirements/docs.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-lite .venv-matrix $(DOCS) site work_dirs/demo data/demo build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
