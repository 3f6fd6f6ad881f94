PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup run test test-slurm test-long test-fuzz test-gpu test-faults soak coverage mutation bench lint format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.done ## make the environment in .venv (about 2 minutes; 6 GB with torch's CUDA build)

$(VENV)/.done: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "make: Python 3.11 to 3.13 is needed, " + sys.executable + " is " + sys.version.split()[0] + "; run make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --constraint .ci/constraints.txt --editable '.[completion,faces,hub,onnx,parquet,tensorboard,timm,video]' --group dev
	@touch $@

data/fake: | $(VENV)/.done
	$(BIN)/fer-ddp fake data/fake --train 2000

run: setup data/fake ## pack synthetic faces, train the smoke recipe on them, evaluate and draw it
	$(BIN)/fer-ddp launch local smoke

test: setup ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slurm: setup ## run the tests on private SLURM clusters (installs Debian packages as root; 10 minutes)
	$(BIN)/python -m pytest -q -n 2 --slurm -m slurm

test-long: setup ## run the tests that kill long runs many times (half an hour)
	$(BIN)/python -m pytest -q -n 2 --long -m long

test-fuzz: setup ## run N generated bad inputs, a twentieth of each kind (N=10000; an hour); failing ones are kept in fuzz-failures
	$(BIN)/python tests/fuzz/run.py $(or $(N),10000) --seed $(or $(SEED),0)

test-gpu: ## run the tests that need an NVIDIA GPU, without a network: with .venv's packages, else with PYTHON's own
	PYTHONPATH=.:$$PYTHONPATH $(firstword $(wildcard $(BIN)/python) $(PYTHON)) -m pytest -q --gpu -m gpu $$(grep -rl --include='test_*.py' '^@pytest.mark.gpu' tests)

test-faults: setup ## strike N small trainings, which SEED and a number decide, and compare how they end (ONLY=13: that one)
	$(BIN)/python tests/faults/run_faults.py $(or $(N),200) --seed $(or $(SEED),0) $(if $(ONLY),--only $(ONLY) --keep)

coverage: setup ## run the tests and list the lines and branches that they miss (TESTS=--slurm adds those of test-slurm)
	$(BIN)/pip install --quiet --constraint .ci/constraints.txt --group coverage
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutation: setup ## make 1,500 small faults in what results rest on, and list those that no test notices (15 minutes)
	$(BIN)/pip install --quiet --constraint .ci/constraints.txt --group mutation
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1
	@$(BIN)/python tests/mutation_table.py

soak: setup ## train on two ranks for MINUTES (30) with a strike every 20 to 60 s, and compare; nothing may be left
	$(BIN)/python tests/faults/soak.py $(or $(MINUTES),30) --seed $(or $(SEED),0)

bench: setup ## time every stage against what a user would pick instead (9 minutes to half an hour)
	$(BIN)/pip install --quiet --constraint .ci/constraints.txt --group bench
	$(BIN)/python -m bench

lint: setup ## check style and types, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment, the synthetic faces and the runs
	rm -rf $(VENV) data/fake runs
