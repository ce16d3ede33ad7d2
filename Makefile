# One environment, made by the first command that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run on one processor kind and one Keras backend, wherever they run.
export CUDA_VISIBLE_DEVICES :=
export KERAS_BACKEND ?= tensorflow
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo test coverage check format lint types install readme docs bench fuzz clean

demo: $(READY)
	$(BIN)/xlstm demo

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(READY)

test: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# the same tests, each line traced: two thirds more time of a processor
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy xlstm converters

check: format lint types coverage

readme: $(READY)
	$(BIN)/python tests/docs/readme.py

# the pages of docs/ as HTML, in build/docs; any warning fails
docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky docs build/docs

# ratios measured side by side, one process for the calls of a contest; nothing else should run
bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/bench.py --json docs/speed/calls.json --svg docs/speed/calls.svg
	$(BIN)/python benchmarks/commands.py --json docs/speed/commands.json
	$(BIN)/python benchmarks/growth.py --json docs/speed/growth.json

# 20 minutes on two cores: mutated files in children with limits; offenders are kept in build/fuzz
fuzz: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/fuzz/harness.py --seconds 1200 --jobs 2 --keep build/fuzz

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage*
