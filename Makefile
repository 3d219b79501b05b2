# A few commands. The first one installs into .venv and devstack/node; all data lies in .fineflow.
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable
# One line that counts, in place of pip's hundreds.
COUNT := awk '/^ *Collecting/ {n++; printf "\r  %d packages found", n} \
  /^Installing collected/ {printf "\n  writing them to .venv"} {fflush()} END {printf "\n"}'
INPUTS := pyproject.toml constraints.txt devstack/node/package-lock.json

.PHONY: demo up test check bench mutations chaos soak install clean

demo: .venv/.run            ## the whole story on this machine, no key: DOC=any.md for a document of yours
	@$(BIN)/fineflow demo $(if $(DOC),"$(DOC)")

up: .venv/.run              ## the stack stays up; prints the address and the demo login
	@$(BIN)/fineflow up

test: .venv/.dev            ## everything: real Postgres, both official clients, real training; a stack a process
	@$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile $(ARGS)

check: .venv/.dev           ## style, types, import arrows, SQL rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py tests/supabase/test_schema_rules.py

bench: .venv/.dev           ## NAME=x for one; each ends with one JSON line
	@for name in $(or $(NAME),$(shell cd benchmarks && ls *.py | grep -v __init__ | sed 's/[.]py//;s/_/-/g')); do \
	  $(BIN)/python -m benchmarks.$${name//-/_} || exit 1; done

mutations: .venv/.dev       ## takes one safeguard away at a time; the tests must notice each
	@$(BIN)/python -m tests.mutations

chaos: .venv/.dev           ## JOBS jobs while functions are killed and Postgres is restarted; the last line is JSON
	@$(BIN)/python -m tests.shared.jobs.chaos.run --jobs $(or $(JOBS),1000) --seed $(or $(SEED),1)

soak: .venv/.dev            ## the job core through ROWS disturbed lives; the last line is JSON
	@$(BIN)/python -m tests.shared.jobs.simulation.soak --rows $(or $(ROWS),100000) --seed $(or $(SEED),1)

install: .venv/.run

.venv/.run: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FineFlow needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (one to three minutes, once)"
	@$(PIP) ".[cli,train,devstack]" | $(COUNT)
	@$(BIN)/python -m devstack.install
	@touch $@

.venv/.dev: .venv/.run
	@echo "Installing what the tests need"
	@$(PIP) ".[cli,train,devstack,dev]" | $(COUNT)
	@touch $@

clean:                      ## removes the environment and all local data
	rm -rf .venv .fineflow devstack/node/node_modules
