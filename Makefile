# The two commands are `make demo` and `make test`; `make help` lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test thorough validate-slow lint bench bench-test rehearse send-race kill outage fuzz soak stow-memory faults api-fuzz peers openapi conformance clean

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Tried in this order; `make demo PYTHON=/path/to/python` names another.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)
# Test files that run side by side; each starts its own processes on ports of the system's choice. Those of whole processes
# come first: as the last they would leave the other cores idle.
TEST_JOBS ?= 3
# How often `make kill` kills, and with which random numbers.
KILLS ?= 102
SEED := $(or $(SEED),$(shell date +%s))
# How long `make soak` does deeds.
MINUTES ?= 20
# Length of the part that `make stow-memory` sends.
MIB ?= 2048
# How many examples `make api-fuzz` tries of each operation.
EXAMPLES ?= 500
# Which database the ledgers of `make faults` are on: sqlite or postgresql.
LEDGER ?= sqlite
# Further arguments: `make demo ARGS="--out /tmp/demo"`, `make test ARGS="-k header"`.
ARGS ?=

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

demo: $(VENV)/.worker-installed ## the main job from end to end, on phantoms; needs nothing but Python
	@$(BIN)/radnode demo $(ARGS)

test: $(VENV)/.dev-installed peers ## the tests, but for those of three other targets (thorough, validate-slow, bench-test); installs Debian packages of real peers where that is allowed
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

thorough: $(VENV)/.dev-installed peers ## what shows with whole processes, in some minutes, what quicker tests show too
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder -m thorough $(ARGS)

validate-slow: $(VENV)/.dev-installed ## PixelMed's validators on one document of each kind; installs them and Java where that is allowed
	@.ci/install-peers slow
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.dev-installed ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict node workers tests
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.worker-installed ## what the stages cost (ARGS=--write keeps it in docs/benchmarks.md), and the main job with its seconds by stage
	@$(BIN)/radnode bench encode $(ARGS)
	@time $(BIN)/radnode demo --out build/bench

bench-test: $(VENV)/.dev-installed peers ## the tests of `radnode bench …` that take longest
	$(BIN)/python -m pytest -m measuring $(ARGS)

rehearse: $(VENV)/.worker-installed ## site acceptance with every fault, on a node of its own; a report to sign in rehearsal-output/
	@$(BIN)/radnode rehearse --faults $(ARGS)

send-race: $(VENV)/.worker-installed ## 100,000 C-STORE requests to dcmtk's storescp, every response counted
	@$(BIN)/radnode bench responses --instances 100000 $(ARGS)

kill: $(VENV)/.dev-installed ## kill -9 at 100 random moments while Instances come; SEED=… for the same ones again
	@echo 'make kill SEED=$(SEED)'
	RADNODE_KILLS=$(KILLS) RADNODE_KILL_SEED=$(SEED) $(BIN)/python -m pytest -v tests/acceptance/test_kill_receiving.py $(ARGS)

outage: $(VENV)/.dev-installed peers ## 500 Results wait a whole day for a PACS, by a clock of their own; about a minute
	RADNODE_OUTAGE_HOURS=24 $(BIN)/python -m pytest --durations=1 tests/acceptance/faults/test_pacs_faults.py -k 500_results $(ARGS)

fuzz: $(VENV)/.dev-installed ## 100,000 damaged PDUs, commands and data sets against a node; SEED=… for the same ones again
	$(BIN)/python -m tests.fuzz --cases 100000 --seed $(SEED) $(ARGS)

soak: $(VENV)/.dev-installed peers ## 20 minutes of load while everything is killed, filled and taken away; SEED=… for the same again, ARGS=--write keeps it in docs/reliability.md
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

stow-memory: $(VENV)/.dev-installed ## a part of 2 GB by STOW-RS, and what the web process then holds; MIB=… for another size
	RADNODE_STOW_MIB=$(MIB) $(BIN)/python -m pytest -k memory_does_not_follow tests/integration/test_stow_of_a_node.py $(ARGS)

faults: $(VENV)/.dev-installed peers ## every fault of docs/faults.md; LEDGER=postgresql for ledgers there instead of SQLite
	RADNODE_TEST_LEDGER=$(LEDGER) $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder -m 'not slow' tests/acceptance/faults $(ARGS)

api-fuzz: $(VENV)/.dev-installed ## 500 requests of every kind to each operation of /api/v1, against its description; EXAMPLES=… for another number
	RADNODE_API_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/integration/test_api_contract.py $(ARGS)

peers: ## Orthanc, dcmtk, dicom3tools, Redis, PostgreSQL, Chromium, OHIF and Prometheus, where apt-get, root rights and npm are there
	@.ci/install-peers

openapi: $(VENV)/.dev-installed ## write docs/openapi.json from the routes of /api/v1
	$(BIN)/python -m tests.openapi

conformance: $(VENV)/.worker-installed ## write docs/conformance.md from the accepted Presentation Contexts
	$(BIN)/python -c 'from node.dimse.conformance import conformance_statement as text; print(text(), end="")' >docs/conformance.md

clean: ## remove what was built and measured; .venv and data stay
	rm -rf build dist demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find node workers tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@for candidate in $(PYTHONS); do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "making $(VENV) with $$("$$candidate" --version)"; \
	        "$$candidate" -m venv $(VENV); \
	        touch $@; \
	        exit 0; \
	    fi; \
	done; \
	echo "radnode needs Python 3.11 or newer with its venv module; tried: $(PYTHONS)." >&2; \
	echo "Install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make demo PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.worker-installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'installing into $(VENV), some minutes the first time'
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[worker]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'installing into $(VENV), some minutes the first time'
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[worker,dev]'
	@touch $(VENV)/.worker-installed $@
