# Every target sets up what it needs by itself. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help env test demo lint clean

help:
	@echo 'make env    the environment in $(VENV) (mmcv builds from source the first time: about 12 minutes on 2 cores)'
	@echo 'make test   all tests'
	@echo 'make demo   MGD on embedded data: teacher, student alone, student distilled; a table and a picture'
	@echo 'make lint   ruff'

env:
	@PYTHON=$(PYTHON) bash tools/setup_env.sh $(VENV)

test: env
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

demo: env
	$(BIN)/python tools/run_demo.py

lint: env
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) work_dirs/demo data/demo
