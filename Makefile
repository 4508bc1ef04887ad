# Two commands do all the set-up on a machine that has Python ≥ 3.11, git and make:
#   make demo   train on real scans, sabotage the run, diagnose both, write both reports
#   make test   everything that CI checks
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test format lint types contracts shape unit docs nightly bench clean

demo: .venv/ready
	$(BIN)/thalweg demo

test: format lint types contracts shape unit docs

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

format: .venv/ready
	$(BIN)/ruff format --check

lint: .venv/ready
	$(BIN)/ruff check

types: .venv/ready
	$(BIN)/mypy

contracts: .venv/ready
	$(BIN)/lint-imports

shape: .venv/ready
	$(BIN)/python docs/check_shape.py

unit: .venv/ready
	$(BIN)/pytest -q -m "not slow" tests

docs: .venv/ready
	$(BIN)/pytest -q docs README.md

nightly: .venv/ready
	$(BIN)/pytest -q tests docs

bench: .venv/ready
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
