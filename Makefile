# `make reproduce` and `make test` are all there is to it; each makes .venv on first use. `make help` lists the rest.
SCALE ?= demo
, := ,
PY    := .venv/bin/python
READY := .venv/.ready$(if $(GPU),-gpu)
# One line of Python decides which interpreters will do; PYTHON=... names another one.
FITS   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(shell for p in python3.11 python3.12 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p; done))
TORCH  := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)
.PHONY: help setup test reproduce lab lint teacher student clean

help:  ## this list
	@grep -hE '^[a-z ]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY)  ## the virtual environment (GPU=1 adds Unsloth; PIP_ARGS=... goes to pip)

# torch goes first, in its own call, so that nothing else chooses another build of it.
$(READY): pyproject.toml
	@$(PY) -c '$(FITS)' 2>/dev/null || '$(PYTHON)' -c '$(FITS)' 2>/dev/null || \
	  { echo "heal: needs Python 3.11 or 3.12; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PY) -c '$(FITS)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install -q $(PIP_ARGS) $(TORCH)
	$(PY) -m pip install -q $(PIP_ARGS) $(TORCH) -e '.[dev$(if $(GPU),$(,)gpu)]'
	@touch .venv/.ready $@

test: $(READY)  ## the test suite (ARGS=... goes to pytest)
	$(PY) -m pytest $(ARGS)

reproduce: $(READY)  ## every table and figure (SCALE=smoke|demo|full, FROM_SCRATCH=1, ARGS="--only 02_gear")
	$(PY) -m heal_lib.reproduce --scale $(SCALE) $(if $(FROM_SCRATCH),--from-scratch) $(ARGS)

lab: $(READY)  ## JupyterLab on the notebooks
	$(PY) -m jupyterlab notebooks

lint: $(READY)  ## ruff, and notebooks without outputs
	$(PY) -m ruff check .
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb

teacher student: $(READY)  ## retrain the shipped model of that name
	$(PY) -m heal_lib.embedded.pretrain $@

clean:  ## drop caches, keep .venv and results
	rm -rf .cache .pytest_cache .ruff_cache .hypothesis
