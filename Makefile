# `make` lists the targets. Everything that runs depends on the finished marker of .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help

STUDY ?= quickstart
CORES ?= all
SIZE ?= full
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
UPGRADE ?=
SEED ?= 1

# Every job of a study is a process that imports the same libraries: without their bytecode that
# takes 8 s instead of 3.
unexport PYTHONDONTWRITEBYTECODE

ENV := .venv/.complete
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n $(WORKERS)
# Many Stan programs: their compilations share a precompiled header, which is removed at the end.
TOGETHER := $(PY) tools/compile-together
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.12 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)

# The C++ source of the fast engine; what is built of it belongs to the environment.
KERNELS := $(wildcard rmm/backends/laplace/kernels/*pp)

# The marker has the folder of the environment: a copied or moved .venv is built again.
ifneq ($(shell cat $(ENV) 2>/dev/null),$(CURDIR))
$(ENV): FORCE
endif

.PHONY: help env study smoke test test-all test-slurm lint format calibration recovery parity closed-forms coalitions bench lock clean docs docs-code fuzz attack test-faults test-package supply-chain FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

$(ENV): requirements.lock requirements-uv.lock pyproject.toml tools/set-up CMakeLists.txt $(KERNELS)
	@PYTHON="$(PYTHON)" tools/set-up

env: $(ENV) ## set up .venv from the lock (PYTHON=/path/to/python3.13 to choose)

study: $(ENV) ## run a study: STUDY=quickstart CORES=all SIZE=full (or smoke)
	@.venv/bin/rmm study run "$(STUDY)" --cores "$(CORES)" --size "$(SIZE)"

smoke: $(ENV) ## every study of config/studies at its smoke size (long: compiles all programs)
	@$(TOGETHER) sh -c 'for file in config/studies/*.yaml; do \
		.venv/bin/rmm study run "$$file" --cores "$(CORES)" --size smoke || exit 1; done'

test: $(ENV) ## the short tests, five minutes on two cores (PYTEST_ARGS=...)
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(ENV) ## all tests that need no cluster and no long run, with those that compile Stan programs
	$(TOGETHER) --quick $(PYTEST) -m "not long" $(PYTEST_ARGS)

test-slurm: $(ENV) ## a study on a real one-node Slurm, with mishaps (root; Debian's slurm-wlm, munge)
	$(PY) -m pytest -m slurm -rs tests/workflow/test_slurm.py $(PYTEST_ARGS)

lint: $(ENV) ## style, types, layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	.venv/bin/snakefmt --check workflow Snakefile

format: $(ENV) ## rewrite the files as `make lint` wants them
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	.venv/bin/snakefmt workflow Snakefile

calibration: $(ENV) ## simulation-based calibration of every family; ENGINE=laplace for one engine (long)
	$(PYTEST) -m calibration $(PYTEST_ARGS)
	@$(TOGETHER) tools/judge-studies calibration "$(CORES)" "$(ENGINE)"

recovery: $(ENV) ## recovery of known parameters, every family; ENGINE as above (long)
	$(PYTEST) -m recovery $(PYTEST_ARGS)
	@$(TOGETHER) tools/judge-studies recovery "$(CORES)" "$(ENGINE)"

parity: $(ENV) ## the three engines agree, every kind of model of every family (long)
	$(PYTEST) -m parity $(PYTEST_ARGS)
	@$(TOGETHER) tools/judge-studies parity "$(CORES)"

closed-forms: $(ENV) ## published numbers with closed forms, at full replications (long)
	$(PYTEST) -m closed_forms $(PYTEST_ARGS)

fuzz: $(ENV) ## 10,000 made-up inputs for each reader, 300 fits (long; FUZZ_SEED=2 for others)
	$(PYTEST) -m fuzz $(PYTEST_ARGS)

attack: $(ENV) ## damaged files, hostile names, planted code, kills: what was tried, what broke (long; SEED=2)
	$(PY) -m tests.attack --seed "$(SEED)"

test-package: $(ENV) ## build wheel and sdist, install the wheel into an empty environment, use it
	$(PY) -m pytest -m packaging -rs tests/repository/test_packaging.py $(PYTEST_ARGS)

test-faults: $(ENV) ## kill studies at random moments, 250 times; nodes of a Slurm, 10 times (long)
	$(PYTEST) -m faults $(PYTEST_ARGS)

bench: $(ENV) ## speed beside lme4, on one core (20 minutes); BENCH_ARGS="--peers" or "--full" for more
	$(PY) -m benchmarks.speed $(BENCH_ARGS)

# From scratch: pages have parts generated from the code, which Sphinx does not watch.
docs: $(ENV) ## build the documentation into build/docs, strictly; open build/docs/index.html
	rm -rf build/docs
	$(PY) -m sphinx -W --keep-going -q -b html docs build/docs

docs-code: $(ENV) ## run all code of the documentation, what takes long too, and check the built pages
	$(PYTEST) -m docs $(PYTEST_ARGS)

coalitions: ## the study of the headline figure on coalitions (long)
	@$(MAKE) --no-print-directory study STUDY=coalitions

supply-chain: $(ENV) ## licences, known vulnerabilities and a bill of materials of all dependencies
	@$(PY) tools/supply-chain

# Addresses of registries belong to a machine, not to the project: they are stripped.
lock: $(ENV) ## resolve the dependencies again (UPGRADE=--upgrade for newer versions)
	$(COMPILE) --all-extras pyproject.toml --output-file requirements.lock
	echo uv | $(COMPILE) - --output-file requirements-uv.lock
	echo numpyro | $(COMPILE) - --output-file benchmarks/requirements-peers.txt
	printf '%s\n' pip-licenses pip-audit cyclonedx-bom | \
		$(COMPILE) - --output-file tools/requirements-supply-chain.txt
	for file in requirements.lock requirements-uv.lock benchmarks/requirements-peers.txt \
		tools/requirements-supply-chain.txt; do \
		sed -E '/^--?(i|f|index-url|extra-index-url|find-links|trusted-host)([ =]|$$)/d' $$file \
			>.lock.tmp && mv .lock.tmp $$file || exit 1; \
	done

# Not .snakemake: it knows which results of a killed study are unfinished.
clean: ## remove .venv and caches; results/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find rmm tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +

FORCE:
