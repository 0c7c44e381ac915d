# Every goal sets up what it needs in .venv, from nothing but Python >= 3.10, and reuses it until pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# PyTorch's OpenMP threads spin between operations by default, and starve the kernels' own threads.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu test-devices test-peers notebooks docs fuzz lint clean

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## train, attack and judge two small networks on digits
	$(BIN)/robust-snn demo --out runs/demo

test: export OMP_NUM_THREADS ?= 1 # a process per core, rather than threads
test: lint ## lint, then every test, the slow ones too
	$(BIN)/python -m pytest -m "slow or not slow" --numprocesses auto --dist worksteal --durations 40

test-gpu: export OMP_NUM_THREADS ?= 1
test-gpu: $(READY) ## the tests that run on a GPU, there
	$(BIN)/python -m pytest -m "gpu and not slow" --numprocesses 8 --dist worksteal

test-devices: export OMP_NUM_THREADS ?= 1
test-devices: $(READY) ## the same without one: a device that only says that it is another
	$(BIN)/python -m pip install --quiet ninja setuptools
	TEST_DEVICE=mirror PYTHONPATH=tools/mirror_device $(BIN)/python -m pytest -p mirror_device \
		-m "gpu and not slow" --numprocesses auto --dist worksteal

test-peers: export OMP_NUM_THREADS ?= 1
test-peers: $(READY) ## tests of timm, ART, torchattacks, foolbox on ours; ROBUST_SNN_TIMM=CHECKOUT and so on
	$(BIN)/python tools/peers/run.py

notebooks: $(READY) ## run the notebooks and keep what they print
	$(BIN)/python -m pip install --quiet -e ".[notebooks]"
	$(BIN)/python tools/notebooks.py

docs: $(READY) ## the documentation site, in build/site
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/python -m mkdocs build --strict

fuzz: export FUZZ_SECONDS ?= 600
fuzz: export OMP_NUM_THREADS ?= 1
fuzz: $(READY) ## wrong input of every kind, FUZZ_SECONDS of each, from FUZZ_SEED
	$(BIN)/python -m pytest tests/fuzz -rP --numprocesses auto --dist worksteal

lint: $(READY) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment, caches and builds, but no run
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find robust_snn tests -type d -name __pycache__ -prune -exec rm -rf {} +

# torchattacks pins a requests too old for the others; SpikingJelly lists much that its neurons never
# import, such as torchaudio. Hence --no-deps.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("robust_snn needs Python 3.10 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e ".[dev]"
	$(BIN)/python -m pip install --no-deps torchattacks==3.5.1 spikingjelly==2.0.0
	touch $@
