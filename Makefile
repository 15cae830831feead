# The commands a contributor needs. Each one sets up what it lacks, and is quick when nothing is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Also on a bare Debian, where neither is set.
export LANG ?= C.UTF-8
export PYTHONUTF8 := 1
# The tests start thousands of processes, and without kept bytecode each one compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages the tests use for real: brokers, a browser, a database, network namespaces, renderers; and what judges the
# boot files and file systems of cards, and makes the Debian that boots from them.
PACKAGES := mosquitto mosquitto-clients chromium postgresql iproute2 curl blender povray ffmpeg \
	cloud-init shellcheck dosfstools mtools xz-utils systemd mmdebstrap

.DEFAULT_GOAL := help
.PHONY: help up test test-boot check fuzz soak bench docs sbom packages clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

up: $(VENV)/.runs ## Set up and run a board on this machine (ARGS="--mqtt-port 0" adds options)
	@exec $(BIN)/callboard up $(ARGS)

# In their own order, in which the long stories come first: files of few tests would else come last, one at a time.
test: $(VENV)/.tests packages ## Set up and run every test (ARGS="-k name" picks some)
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-boot: $(VENV)/.tests packages ## Boot a card in an emulated machine, update it, roll it back (many minutes)
	@sh tools/apt-install.sh qemu-system-x86 fdisk e2fsprogs
	CALLBOARD_BOOT=1 $(BIN)/pytest -s tests/boot/test_boot.py $(ARGS)

check: $(VENV)/.tests ## Lint, formatting, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.tests ## Fuzz the protocol code for a long time (CALLBOARD_FUZZ_SECONDS for each test, default 300)
	CALLBOARD_FUZZ_SECONDS=$${CALLBOARD_FUZZ_SECONDS:-300} HYPOTHESIS_PROFILE=long $(BIN)/pytest tests/fuzz $(ARGS)

soak: $(VENV)/.tests packages ## Bounds and durability at full size: a million messages, 200 kills, a result of a gibibyte; and 30 jobs through kills of everything; 50 rounds of every fault in calls
	CALLBOARD_LONG=1 $(BIN)/pytest tests/integration/test_broker_bounds.py tests/integration/test_broker_durability.py tests/integration/test_farm_rendering.py tests/integration/board/test_artifacts.py tests/integration/board/test_board.py tests/integration/test_workers_artifacts.py $(ARGS)
	CALLBOARD_LONG=1 $(BIN)/pytest -s tests/acceptance/test_workers_faults.py $(ARGS)

bench: $(VENV)/.tests packages ## Measure, and print the tables
	@command -v cc >/dev/null || sh tools/apt-install.sh gcc libc6-dev
	@sh tools/apt-install.sh redis-server
	@for bench in $(sort $(wildcard bench/*.py)); do echo "== $$bench"; $(BIN)/python $$bench $(ARGS) || exit; done

docs: $(VENV)/.tests ## Generate the reference pages from the code
	$(BIN)/python -m callboard_core.reference docs/reference

sbom: $(VENV)/.tests ## Write a software bill of materials, sbom.cdx.json (CycloneDX)
	$(BIN)/python tools/sbom.py sbom.cdx.json

packages: ## Install the Debian packages the tests use
	@sh tools/apt-install.sh $(PACKAGES)
	@command -v npm >/dev/null || sh tools/apt-install.sh npm

clean: ## Remove what was set up here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis test-artifacts dist build sbom.cdx.json

# Debian's python3 comes without what a virtual environment needs.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh tools/apt-install.sh python3-venv
	$(PYTHON) -m venv $(VENV)

# A stamp older than pyproject.toml means that dependencies may have changed.
$(VENV)/.runs: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.tests: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[all,dev]'
	@touch $(VENV)/.runs $@
