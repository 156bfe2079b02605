# Everything a user starts by hand. `make repro` is the whole study on the embedded data, `make test` every check.
PYTHON ?= python3
# Another build of torch, e.g. make env TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu128"
TORCH ?= $(shell grep '^torch==' requirements.lock)
# from the command line alone: a VENV of the environment may be that of another project
VENV = .venv
ENGINE ?= snakemake
ENGINES_dvc = dvc repro $(PIPELINE)
ENGINES_snakemake = snakemake$(if $(STUDY), --config pipeline=$(PIPELINE))
ifndef ENGINES_$(ENGINE)
$(error ENGINE: `$(ENGINE)` is neither snakemake nor dvc)
endif
# another study than the thesis: a folder below studies/
STUDY ?=
PIPELINE = $(if $(STUDY),studies/$(STUDY)/dvc.yaml)
PARAMS = $(if $(STUDY),--params studies/$(STUDY)/params.yaml)
ifneq ($(STUDY),)
ifeq ($(wildcard studies/$(STUDY)/variants.yaml),)
$(error STUDY: there is no studies/$(STUDY)/variants.yaml)
endif
endif
ifneq ($(words $(VENV)),1)
$(error VENV: a path without spaces, please; relative to this folder it may lie anywhere)
endif
# for the shell, which alone can quote it: the project's folder may have any name
export BIN := $(if $(filter /%,$(VENV)),$(VENV),$(CURDIR)/$(VENV))/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help env repro check test bench ui pretrain clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.ready  ## the environment in .venv, from requirements.lock

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "regroup needs Python 3.11 or newer; say which: make env PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo 'installing some 230 packages into $(VENV), a few minutes'
	"$$BIN/python" -m pip install --quiet --progress-bar off $(TORCH)
	"$$BIN/python" -m pip install --quiet --progress-bar off --no-deps -r requirements.lock
	"$$BIN/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

repro: env  ## the whole study on the embedded data, a stage a core; ENGINE=dvc: one by one; STUDY=NAME: another
	@regroup check $(PARAMS)
	$(ENGINES_$(ENGINE))
	@python -m regroup.tracking publish
	@regroup page --if-older $(PARAMS) > /dev/null
	@regroup summary $(PARAMS)
	@regroup verify $(PARAMS) || true

check: env  ## format, lint, types, who imports whom, declared packages
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-cache
	deptry src stages workflow studies
	deptry src stages workflow studies benchmarks tests --ignore DEP002,DEP004

test: check  ## every check and every test
	pytest

bench: env  ## speed ratios against the obvious alternatives, into reports/bench.json; after make repro, STUDY=bench too
	python benchmarks/model.py
	python benchmarks/training.py
	python benchmarks/segmentation.py
	python benchmarks/shared_encoding.py
	python benchmarks/bench.py --tasks zero_shot few_shot composition
	python benchmarks/captions.py

ui: env  ## MLflow's pages on http://127.0.0.1:5000
	python -m regroup.tracking ui

pretrain: env  ## draw the web corpus and train the mini checkpoints again (20 to 30 minutes)
	python stages/pretrain.py --params params.yaml --item groupvit-mini
	python stages/pretrain.py --params params.yaml --item clip-mini
	dvc commit --force pretrain/dvc.yaml

clean: env  ## remove what stages made (DVC's cache stays)
	rm -rf data/mini runs/mini .state
