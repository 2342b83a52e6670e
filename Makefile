# The habits of this repository.  `make` or `make help` lists them.
.POSIX:
.SUFFIXES:

VENV = .venv
BIN = $(VENV)/bin
HOST = 127.0.0.1
PORT = 8000
SCENARIO = steady
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What an install compiles (GNU make lists it; another make compiles again only when these scripts change).
KERNELS = hatch_build.py scripts/build_native.py $(wildcard server/engine/kernels/*.cpp server/engine/kernels/*.h)

# Stamps: an install runs again only when pyproject.toml or a kernel is newer.
MADE = $(VENV)/.made
CORE = $(VENV)/.installed-core
DEV = $(VENV)/.installed-dev
BENCH = $(VENV)/.installed-bench
LOADTEST = $(VENV)/.installed-loadtest

.PHONY: help serve test test-integration lint bench loadtest train-tiny image-constraints container-tools clean

help: ## List the targets
	@grep -E '^[.a-z-]+:.*## ' Makefile | sed -e 's/:.*## /|/' | while IFS='|' read -r target text; do \
		printf '  %-18s %s\n' "$$target" "$$text"; done

.venv: $(CORE) ## Make the virtual environment with what serving needs

$(MADE): scripts/make_venv.sh
	sh scripts/make_venv.sh $(VENV) "$(PYTHON)"
	@touch $@

$(CORE): $(MADE) pyproject.toml $(KERNELS)
	@echo "Installing what serving needs into $(VENV)"
	$(PIP_INSTALL) --editable .
	@touch $@

$(DEV): $(CORE) scripts/install_torch.sh
	sh scripts/install_torch.sh $(BIN)/python
	@echo "Installing what training and testing need into $(VENV)"
	$(PIP_INSTALL) --editable '.[train,dev]'
	@touch $@

$(BENCH): $(DEV)
	@echo "Installing what benchmarks need into $(VENV)"
	$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

$(LOADTEST): $(CORE)
	@echo "Installing what load tests need into $(VENV)"
	$(PIP_INSTALL) --editable '.[loadtest]'
	@touch $@

serve: $(CORE) ## Start the server with the default model on HOST:PORT (127.0.0.1:8000)
	$(BIN)/leeway serve --host $(HOST) --port $(PORT)

test: lint ## Lint, check types and arrows, run the tests (no network, no downloads)
	$(BIN)/python -m pytest

test-integration: $(DEV) $(LOADTEST) ## Tests that need a second environment (the wheel; the engine ipex)
	$(BIN)/python -m pytest -m integration tests/integration

lint: $(DEV) ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH) ## Engine parity, memory, and the default model beside others (DATA=FILE in SQuAD format; else an excerpt)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.peers

loadtest: $(LOADTEST) ## Run a scenario (SCENARIO=steady) against a server that runs on HOST:PORT (DATA=FILE in SQuAD format)
	GEVENT_BACKEND=select $(BIN)/locust -f loadtest/locustfile.py --headless --only-summary \
		--host http://$(HOST):$(PORT) --scenario $(SCENARIO) --squad "$(DATA)"

train-tiny: $(DEV) ## All training stages on a tiny model and 50 questions, in under 3 minutes
	PATH="$(PWD)/$(BIN):$$PATH" sh trainer/runs/tiny.sh

image-constraints: $(MADE) ## Pin the packages of the image again, as they are today
	$(BIN)/python scripts/image_constraints.py deploy/constraints.txt

container-tools: ## Install what the container tests need where no Docker runs (Debian, as root)
	sh scripts/install_container_tools.sh

clean: ## Remove caches and the virtual environment
	rm -f server/engine/kernels/libleeway_native*.so*
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
